"""The training step under a real trainer, with a model of a few weights.  B batch, N patches, K kept patches, E shared width."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from gestalt.loss import ContrastiveTerms, contrastive_loss, sigmoid_loss
from gestalt.model import LARGEST_LOGIT_SCALE, DualEncoder, Embeddings
from gestalt.module import ContrastiveModule, NonFiniteLoss
from gestalt.subsampling import keep_indices

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # four pictures need none
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),  # callbacks do the validation, and none is here
]
BATCH, STEPS, TOTAL = 4, 3, 16


class FewWeights(nn.Module):
    """A dual encoder of one vector a side on a 4 x 4 grid; remembers what it was told to keep."""

    def __init__(self, *, parts: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Parameter(torch.randn(BATCH, 2, generator=generator))
        self.text = nn.Parameter(torch.randn(BATCH, 2, generator=generator))
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor(1.0)), None
        self.image_tower = SimpleNamespace(grid=lambda height, width: (height // 8, width // 8))
        self.parts = parts
        self.kept: list[Tensor | None] = []

    def forward(self, images: Tensor, texts: list[str], *, keep: Tensor | None = None) -> Embeddings:
        self.kept.append(keep)
        parts = self.parts or (TOTAL if keep is None else keep.shape[1])
        return Embeddings(functional.normalize(self.image, dim=1), functional.normalize(self.text, dim=1), parts=parts)

    clamp_logit_scale = torch.no_grad()(lambda self: self.logit_scale.clamp_(0, LARGEST_LOGIT_SCALE))


def pulled(
    image: Tensor, text: Tensor, *, logit_scale: Tensor, text_id: Tensor, valid: Tensor, direction: float = -1.0, **logit_bias: Tensor
) -> ContrastiveTerms:
    """Pairs attract, and the scale is pulled in a direction."""
    nothing = torch.zeros(())
    return ContrastiveTerms((image - text).square().sum() + direction * logit_scale, accuracy=nothing, duplicates=nothing)


class Breaks:
    """A loss that is no number from its n-th call on."""

    def __init__(self, first: int, *, value: float) -> None:
        self.first, self.value, self.calls = first, value, 0

    def __call__(
        self, image: Tensor, text: Tensor, *, logit_scale: Tensor, text_id: Tensor, valid: Tensor, **logit_bias: Tensor
    ) -> ContrastiveTerms:
        self.calls += 1
        terms = pulled(image, text, logit_scale=logit_scale, text_id=text_id, valid=valid)
        return terms if self.calls < self.first else terms._replace(loss=terms.loss * self.value)


class Watch(Callback):
    """The logit scale and what is logged after each step, and the gradient's norm as the optimiser meets it."""

    def __init__(self) -> None:
        self.scales: list[float] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.scales.append(pl_module.model.logit_scale.item())
        self.logged.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def pair(index: int) -> dict:
    return {"image": torch.zeros(3, 32, 32, dtype=torch.uint8), "text": "a dog", "sample_id": 7 * index, "epoch": 5, "valid": True}


def trained(
    model: FewWeights, *, loss=pulled, share: float = 1.0, rate: float = 0.1, clip: float | None = None, steps: int = STEPS
) -> tuple:
    module = ContrastiveModule(
        model,
        loss=loss,
        make_optimizer=lambda trained: torch.optim.SGD(trained.parameters(), lr=rate),
        rate_factor=lambda step: 1.0,
        keep_share=share,
        seed=3,
    )
    watch = Watch()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, callbacks=[watch], gradient_clip_val=clip, **quiet)
    trainer.fit(module, DataLoader([pair(index) for index in range(BATCH)], batch_size=BATCH))
    return module, watch


@pytest.mark.parametrize(("share", "parts", "asked"), [(0.5, 16, "8/16"), (0.5, 9, "8/16"), (1.0, 17, "16/16"), (0.2, 4, "3/16")])
def test_the_run_stops_when_the_tower_keeps_another_number_of_tokens_than_the_config_asks_for(share, parts, asked):
    with pytest.raises(RuntimeError, match=rf"image\.keep_tokens={share} expects {asked} patch tokens, the tower kept {parts}"):
        trained(FewWeights(parts=parts), share=share)


def test_kept_tokens_are_counted_each_step():
    module, watch = trained(FewWeights(), share=0.5)
    assert module.kept == "8/16"
    assert [(step["tokens/kept"], step["tokens/share"]) for step in watch.logged] == [(8, 0.5)] * STEPS


def test_with_all_tokens_nothing_is_dropped():
    model = FewWeights()
    module, _ = trained(model, share=1.0)
    assert model.kept == [None] * STEPS
    assert module.kept == "16/16"


def test_tokens_are_chosen_by_seed_epoch_and_sample_as_the_batch_says_them():
    model = FewWeights()
    trained(model, share=0.5)
    expected = keep_indices(torch.tensor([0, 7, 14, 21]), torch.full((4,), 5), seed=3, total=TOTAL, kept=8)
    for keep in model.kept:
        assert torch.equal(keep, expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("first", [1, 3])
def test_a_loss_that_is_no_number_stops_before_the_step_and_names_it(first, value):
    model = FewWeights()
    with pytest.raises(NonFiniteLoss, match=rf"loss is (nan|-?inf) at step {first - 1} \(learning rate 0.1, logit scale"):
        trained(model, loss=Breaks(first, value=value))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("direction", "end"), [(-1.0, LARGEST_LOGIT_SCALE), (1.0, 0.0)])
def test_after_each_step_the_logit_scale_lies_between_one_and_a_hundred(direction, end):
    def loss(image, text, *, logit_scale, text_id, valid):
        return pulled(image, text, logit_scale=logit_scale, text_id=text_id, valid=valid, direction=direction)

    _, watch = trained(FewWeights(), loss=loss, rate=2.5)
    assert all(0 <= scale <= LARGEST_LOGIT_SCALE + 1e-6 for scale in watch.scales)  # the bound rounds in float32
    assert watch.scales[-1] == pytest.approx(end)


def test_the_sigmoid_loss_learns_a_bias_which_is_logged_and_a_scale_without_bounds():
    model = FewWeights()
    model.logit_bias, model.logit_scale.data = nn.Parameter(torch.tensor(-10.0)), torch.tensor(-1.0)
    model.clamp_logit_scale = lambda: DualEncoder.clamp_logit_scale(model)
    module, watch = trained(model, loss=partial(sigmoid_loss, directions="sum", equal_texts="negatives"))
    biases = [step["train/logit_bias"] for step in watch.logged]
    assert biases[0] == -10
    assert biases[0] < biases[1] < biases[2] < model.logit_bias.item()  # four pairs of sixteen: ten is too much
    assert module.model.logit_scale < 0


def test_the_gradients_norm_is_the_one_before_clipping():
    _, free = trained(FewWeights(), rate=1e-9)
    _, clipped = trained(FewWeights(), rate=1e-9, clip=1e-3)
    assert free.logged[0]["train/gradient_norm"] > 1
    assert clipped.logged[0]["train/gradient_norm"] == pytest.approx(free.logged[0]["train/gradient_norm"])


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3])
def test_gradients_are_clipped_as_torch_does(clip):
    model = FewWeights()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss = pulled(
        *functional.normalize(torch.stack([model.image, model.text]), dim=-1), logit_scale=model.logit_scale, text_id=None, valid=None
    )
    loss.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    expected = {name: value - 0.1 * parameter.grad for (name, value), parameter in zip(before.items(), model.parameters(), strict=True)}
    stepped = FewWeights()
    trained(stepped, clip=clip, steps=1)
    for name, parameter in stepped.named_parameters():
        assert torch.equal(parameter, expected[name]), name


def test_the_last_loss_and_the_count_of_tokens_live_on_in_a_checkpoint():
    module, watch = trained(FewWeights(), share=0.5)
    assert module.last_loss == pytest.approx(watch.logged[-1]["train/loss"])
    saved: dict = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    fresh = ContrastiveModule(
        FewWeights(), loss=pulled, make_optimizer=torch.optim.SGD, rate_factor=lambda step: 1.0, keep_share=0.5, seed=3
    )
    assert math.isnan(fresh.last_loss)
    fresh.on_load_checkpoint(saved)
    assert (fresh.last_loss, fresh.kept) == (module.last_loss, "8/16")


def test_weights_that_are_no_numbers_are_never_saved():
    module, _ = trained(FewWeights(), share=0.5)
    module.model.text.data[0, 0] = math.nan
    with pytest.raises(NonFiniteLoss, match=r"1 of 3 weights, model\.text first, contain NaN or infinity after step 3; not saved"):
        module.on_save_checkpoint({"state_dict": module.state_dict()})


class Normed(nn.Module):
    """A dual encoder of a linear layer a side on an image's mean colours, with batch norm, which mixes whatever images it is given."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.norm = nn.BatchNorm1d(3)
        self.image, self.text = nn.Linear(3, 2), nn.Embedding(8, 2)
        for parameter in (*self.image.parameters(), *self.text.parameters()):
            parameter.data.normal_(generator=generator)
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor(1.0)), None
        self.image_tower = SimpleNamespace(grid=lambda height, width: (4, 4))
        self.keeps: list[Tensor] = []

    def forward(self, images: Tensor, texts: list[str], *, keep: Tensor) -> Embeddings:
        self.keeps.append(keep)
        image = self.image(self.norm(images.to(self.image.weight.dtype).mean(dim=(2, 3))))
        text = self.text(torch.tensor([int(text) for text in texts]))
        return Embeddings(functional.normalize(image, dim=1), functional.normalize(text, dim=1), parts=keep.shape[1])


def stepped(batch: dict) -> tuple[Tensor, Normed]:
    """The loss of one step on a batch, and the model with its gradients."""
    model = Normed().double()
    module = ContrastiveModule(
        model,
        loss=partial(contrastive_loss, directions="sum", equal_texts="negatives"),
        make_optimizer=torch.optim.SGD,
        rate_factor=lambda step: 1.0,
        keep_share=0.5,
        seed=3,
    )
    module._log_step = lambda *_, **__: None  # needs a trainer
    module.print = lambda *_: None
    loss = module.training_step(batch, 0)
    torch.autograd.backward(loss)
    return loss.detach(), model


def test_a_step_is_that_on_the_batch_without_the_pairs_that_are_not_valid():
    rows = torch.tensor([0, 2, 3, 5])
    valid = torch.zeros(6, dtype=torch.bool).index_fill(0, rows, True)
    image = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = {"image": image * valid[:, None, None, None], "text": ["0", "", "2", "3", "", "5"], "valid": valid}
    batch |= {"sample_id": torch.arange(6), "epoch": torch.ones(6, dtype=torch.int64)}
    alone = {key: batch[key][rows] for key in ("image", "sample_id", "epoch", "valid")} | {"text": ["0", "2", "3", "5"]}
    (loss, model), (expected, other) = stepped(batch), stepped(alone)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert model.keeps[0].equal(other.keeps[0])
    for (name, found), (_, right) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(found.grad, right.grad, rtol=1e-10, atol=1e-14, msg=name)
    torch.testing.assert_close(model.norm.running_mean, other.norm.running_mean, rtol=0, atol=0)
