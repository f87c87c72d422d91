"""The training step under a real trainer, with a model of a few weights.  B batch, N patches, K
kept patches, E shared width.
"""

import math
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, default_collate

from gestalt.encoders.weights import WeightsOrigin
from gestalt.losses.contrastive import contrastive_loss
from gestalt.losses.matrix import ContrastiveTerms
from gestalt.losses.sigmoid import sigmoid_loss
from gestalt.model import MAX_LOGIT_SCALE, DualEncoder, Embeddings
from gestalt.module import ContrastiveModule
from gestalt.subsampling import keep_indices
from gestalt.support.faults import Caveat
from gestalt.training.finite import NonFiniteLoss
from gestalt.training.keys import Optimizer
from gestalt.training.schedule import clip_in_step, make_optimizer, rate_factor
from tests.gestalt.at_step import QUIET
from tests.gestalt.painted import random_pixels

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # four pictures need none
    # validation is done by callbacks, and there is none here
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),
]
BATCH, STEPS, TOTAL = 4, 3, 16


class FewWeights(nn.Module):
    """A dual encoder of one vector a side on a 4 x 4 grid; records the tokens it was asked to
    keep.
    """

    def __init__(self, *, parts: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = nn.Parameter(torch.randn(BATCH, 2, generator=generator))
        self.text = nn.Parameter(torch.randn(BATCH, 2, generator=generator))
        self.logit_scale, self.logit_bias = nn.Parameter(torch.tensor(1.0)), None
        self.image_tower = SimpleNamespace(grid=lambda height, width: (height // 8, width // 8))
        self.image_origin = self.text_origin = WeightsOrigin("random", "fresh")
        self.parts = parts
        self.kept: list[Tensor | None] = []

    def forward(
        self, images: Tensor, texts: list[str], *, keep: Tensor | None = None, dense: bool = False
    ) -> Embeddings:
        self.kept.append(keep)
        parts = self.parts or (TOTAL if keep is None else keep.shape[1])
        return Embeddings(
            functional.normalize(self.image, dim=1),
            functional.normalize(self.text, dim=1),
            parts=parts,
        )

    clamp_logit_scale = DualEncoder.clamp_logit_scale


def pulled(
    image: Tensor, text: Tensor, *, logit_scale: Tensor, direction: float = -1.0, **_: Any
) -> ContrastiveTerms:
    """Pairs attract, and the scale is pulled in a direction."""
    nothing = torch.zeros(())
    return ContrastiveTerms(
        (image - text).square().sum() + direction * logit_scale,
        accuracy=nothing,
        duplicates=nothing,
    )


class Breaks:
    """A loss that is NaN or infinite from its n-th call on, or in that call only, with a finite
    gradient.
    """

    def __init__(self, first: int, *, value: float, once: bool = False) -> None:
        self.first, self.value, self.once, self.calls = first, value, once, 0

    def __call__(self, image: Tensor, text: Tensor, **given: Any) -> ContrastiveTerms:
        self.calls += 1
        terms = pulled(image, text, **given)
        if self.once:
            return (
                terms._replace(loss=terms.loss + self.value) if self.calls == self.first else terms
            )
        return terms if self.calls < self.first else terms._replace(loss=terms.loss * self.value)


class Watch(Callback):
    """The logit scale and what is logged after each step, and the gradient's norm as the optimiser
    meets it.
    """

    def __init__(self) -> None:
        self.scales: list[float] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.scales.append(pl_module.model.logit_scale.item())
        self.logged.append({key: float(value) for key, value in trainer.callback_metrics.items()})


class Stops(Callback):
    """Ends the run after its third step, as Lightning's timer does."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step == 3


class Noted(DummyLogger):
    """Keeps the loss of each step that is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: dict[int, float] = {}

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if "train/loss" in metrics and step is not None:
            self.losses[step] = metrics["train/loss"]


def pair(index: int) -> dict:
    return {
        "image": torch.zeros(3, 32, 32, dtype=torch.uint8),
        "text": "a dog",
        "sample_id": 7 * index,
        "epoch": 5,
        "valid": True,
    }


def collated(pairs: list[dict]) -> dict:
    return {**default_collate(pairs), "valid_count": len(pairs)}


def build(
    model: nn.Module,
    *,
    loss: Any = pulled,
    share: float = 0.5,
    rate: float = 0.1,
    crops: int | None = None,
) -> ContrastiveModule:
    return ContrastiveModule(
        model,
        loss=loss,
        make_optimizer=lambda trained, _: torch.optim.SGD(trained.parameters(), lr=rate),
        rate_factor=lambda step: 1.0,
        keep_share=share,
        seed=3,
        crops=crops,
    )


def trained(
    model: FewWeights,
    *,
    loss=pulled,
    share: float = 1.0,
    rate: float = 0.1,
    clip: float | None = None,
    steps: int = STEPS,
    every: int = 1,
    more: tuple[Callback, ...] = (),
    logger: Any = False,
    crops: int | None = None,
    pairs_weight: float = 1.0,
    **fit: Any,
) -> tuple:
    module = build(model, loss=loss, share=share, rate=rate, crops=crops)
    module.weights = {"pairs": pairs_weight}
    watch = Watch()
    saves = any(isinstance(callback, ModelCheckpoint) for callback in more)
    trainer = Trainer(
        **{**QUIET, "logger": logger, "enable_checkpointing": saves},
        max_steps=steps,
        max_epochs=-1,
        callbacks=[watch, *more],
        gradient_clip_val=clip,
        log_every_n_steps=every,
        **fit,
    )
    # three batches an epoch
    pairs = DataLoader(
        [pair(index) for index in range(BATCH)] * 3, batch_size=BATCH, collate_fn=collated
    )
    trainer.fit(module, pairs, *([pairs] if fit else []))
    return module, watch


@pytest.mark.parametrize(
    ("share", "parts", "asked"),
    [(0.5, 16, "8/16"), (0.5, 9, "8/16"), (1.0, 17, "16/16"), (0.2, 4, "3/16")],
)
def test_the_run_stops_when_the_tower_keeps_another_number_of_tokens_than_the_config_asks_for(
    share, parts, asked
):
    with pytest.raises(
        RuntimeError,
        match=rf"image\.keep_tokens={share} expects {asked} patch tokens, the tower kept {parts}",
    ):
        trained(FewWeights(parts=parts), share=share)


@pytest.mark.parametrize(("crops", "epoch"), [(None, 5), (2, 1)])
def test_kept_tokens_depend_on_seed_epoch_and_sample_and_repeat_with_the_crops(crops, epoch):
    model = FewWeights()
    trained(model, share=0.5, crops=crops)
    samples, epochs = torch.tensor([0, 7, 14, 21]), torch.full((4,), epoch)
    expected = keep_indices(samples, epochs, seed=3, total=TOTAL, kept=8)
    assert all(torch.equal(keep, expected) for keep in model.kept)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(
    ("every", "first", "value", "calls"),
    [(1, 1, math.inf, 1), (1, 3, math.nan, 3), (4, 2, math.nan, 4), (4, 5, math.nan, 8)],
)
def test_a_bad_step_is_reported_at_the_next_logged_step(every, first, value, calls, once):
    model, loss = FewWeights(), Breaks(first, value=value, once=once)
    said = rf"^loss is (nan|-?inf) at step {first - 1} \(learning rate 0.1, logit scale"
    with pytest.raises(NonFiniteLoss, match=said):
        trained(model, loss=loss, steps=20, every=every)
    assert loss.calls == calls
    # a step that is logged is stopped before it changes a weight
    assert every > 1 or all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("once", [False, True])
def test_no_checkpoint_follows_a_bad_step_that_is_not_read_yet(tmp_path, once):
    saving = ModelCheckpoint(
        dirpath=tmp_path, every_n_train_steps=2, save_top_k=-1, filename="{step}"
    )
    loss = Breaks(4, value=math.nan, once=once)
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 3 "):
        trained(FewWeights(), loss=loss, steps=20, every=100, more=(saving,))
    assert loss.calls == 4
    assert [path.name for path in tmp_path.iterdir()] == ["step=2.ckpt"]
    assert torch.isfinite(torch.load(tmp_path / "step=2.ckpt")["state_dict"]["model.image"]).all()


def test_no_validation_follows_a_bad_step_that_is_not_read_yet(monkeypatch):
    scored: list[int] = []
    monkeypatch.setattr(
        ContrastiveModule, "validation_step", lambda self, *_: scored.append(self.global_step)
    )
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 4 "):
        trained(
            FewWeights(),
            loss=Breaks(5, value=math.nan, once=True),
            steps=20,
            every=100,
            num_sanity_val_steps=0,
        )
    assert set(scored) == {3}


def test_the_last_steps_are_read_when_training_ends():
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 1 "):
        trained(FewWeights(), loss=Breaks(2, value=math.nan, once=True), every=100)
    module, _ = trained(FewWeights(), every=100)
    expected, _ = trained(FewWeights())
    assert module.last_loss == expected.last_loss


def test_logging_less_often_does_not_change_logged_values():
    _, each = trained(FewWeights(), share=0.5, steps=6)
    _, third = trained(FewWeights(), share=0.5, steps=6, every=3)
    names = ("train/loss", "train/gradient_norm", "train/logit_scale", "train/learning_rate")
    for step in (2, 5):
        assert [third.logged[step][name] for name in names] == [
            each.logged[step][name] for name in names
        ]
    assert third.logged[1] == {}


def test_a_loss_measures_only_at_the_steps_that_are_logged():
    asked: list[bool] = []

    def loss(image, text, *, measure=True, **given):
        asked.append(measure)
        return pulled(image, text, **given)

    _, watch = trained(FewWeights(), loss=loss, steps=6, every=3)
    assert asked == [False, False, True] * 2
    assert watch.logged[2]["train/accuracy"] == 0


def test_a_nan_gradient_is_reported():
    def loss(image, text, **given):
        terms = pulled(image, text, **given)
        # its slope at 0 is NaN
        return terms._replace(loss=terms.loss + (image - image.detach()).square().sum().sqrt())

    with pytest.raises(NonFiniteLoss, match=r"^gradient norm is nan at step 0 "):
        trained(FewWeights(), loss=loss, every=2)


def test_pairs_of_weight_0_train_nothing():
    _, watch = trained(FewWeights(), pairs_weight=0)
    assert set(watch.scales) == {FewWeights().logit_scale.item()}
    assert {step["train/loss"] for step in watch.logged} == {0}


@pytest.mark.parametrize(("direction", "end"), [(-1.0, MAX_LOGIT_SCALE), (1.0, 0.0)])
def test_after_each_step_the_logit_scale_lies_between_one_and_a_hundred(direction, end):
    _, watch = trained(FewWeights(), loss=partial(pulled, direction=direction), rate=2.5)
    # the bound rounds in float32
    assert all(0 <= scale <= MAX_LOGIT_SCALE + 1e-6 for scale in watch.scales)
    assert watch.scales[-1] == pytest.approx(end)


def test_the_sigmoid_loss_learns_a_bias_which_is_logged_and_a_scale_without_bounds():
    model = FewWeights()
    model.logit_bias, model.logit_scale.data = nn.Parameter(torch.tensor(-10.0)), torch.tensor(-1.0)
    module, watch = trained(
        model, loss=partial(sigmoid_loss, directions="sum", equal_texts="negatives")
    )
    biases = [step["train/logit_bias"] for step in watch.logged]
    assert biases[0] == -10
    # four pairs of sixteen: ten is too much
    assert biases[0] < biases[1] < biases[2] < model.logit_bias.item()
    assert module.model.logit_scale < 0


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3])
def test_gradients_are_clipped_as_torch_does(clip):
    expected, stepped = FewWeights(), FewWeights()
    vectors = functional.normalize(torch.stack([expected.image, expected.text]), dim=-1)
    torch.autograd.backward(pulled(*vectors, logit_scale=expected.logit_scale).loss)
    torch.nn.utils.clip_grad_norm_(expected.parameters(), clip)
    torch.optim.SGD(expected.parameters(), lr=0.1).step()
    trained(stepped, clip=clip, steps=1)
    for name, parameter in stepped.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3])
def test_a_fused_step_clips_the_gradients_it_reads(clip):
    steps: list[dict[str, Tensor]] = []
    for in_step in (True, False):
        model = FewWeights()
        groups = [{"params": list(model.parameters())}]
        # eps: keeps its scale visible
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=0.1, fused=True)
        pulled(model.image, model.text, logit_scale=model.logit_scale).loss.backward()
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
        if not in_step or not clip_in_step(optimizer, norm=norm, largest=clip):
            torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
        assert hasattr(optimizer, "grad_scale") == in_step
        optimizer.step()
        steps.append(model.state_dict())
    torch.testing.assert_close(steps[0], steps[1], rtol=1e-6, atol=1e-7)
    assert not clip_in_step(torch.optim.SGD(model.parameters()), norm=norm, largest=clip)


def test_the_last_loss_and_the_count_of_tokens_live_on_in_a_checkpoint():
    module, watch = trained(FewWeights(), share=0.5)
    assert module.last_loss == pytest.approx(watch.logged[-1]["train/loss"])
    saved: dict = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(saved)
    assert saved["gestalt"]["steps_planned"] == module.trainer.max_steps == 3
    fresh = build(FewWeights())
    assert math.isnan(fresh.last_loss)
    fresh.on_load_checkpoint(saved)
    assert (fresh.last_loss, fresh.token_count) == (module.last_loss, "8/16")


def test_nan_weights_are_never_saved():
    module, _ = trained(FewWeights(), share=0.5)
    module.model.text.data[0, 0] = math.nan
    with pytest.raises(
        NonFiniteLoss,
        match=r"1 of 3 weights, model\.text first, contain NaN or infinity after step 3; the",
    ):
        module.on_save_checkpoint({"state_dict": module.state_dict()})


class Headed(ContrastiveModule):
    """A subclass with a layer that takes part in the loss, and a second name of the model."""

    def __init__(self, *model: Any, **options: Any) -> None:
        super().__init__(*model, **options)
        self.head, self.same = nn.Linear(2, 1), self.model

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        return super().training_step(batch, batch_index) + self.head(self.model.image).sum()


@pytest.mark.parametrize("trains", [True, False])
def test_a_parameter_of_a_subclass_is_trained_or_named(trains):
    of_model = partial(make_optimizer, terms=nn.ModuleDict(), fused=False)
    options = {} if trains else {"make_optimizer": lambda model, _: of_model(model)}
    module = Headed(FewWeights(), loss=pulled, keep_share=1.0, **options)
    before = module.head.weight.clone()
    warned = (
        nullcontext() if trains else pytest.warns(Caveat, match=r"has head\.weight, head\.bias,")
    )
    with warned:
        pairs = DataLoader([pair(0)] * BATCH, batch_size=BATCH, collate_fn=collated)
        Trainer(**QUIET, max_steps=1, log_every_n_steps=1).fit(module, pairs)
    assert module.head.weight.equal(before) != trains


@pytest.mark.filterwarnings("ignore:When using `Trainer")  # hooks, which are not used
@pytest.mark.parametrize(
    ("option", "steps"),
    [
        ({"accumulate_grad_batches": 2, "max_epochs": 1}, 2),
        ({"callbacks": [GradientAccumulationScheduler({1: 2})], "max_epochs": 2}, 4 + 2),
        (
            {"callbacks": [GradientAccumulationScheduler({1: 2})], "max_epochs": 2, "max_steps": 5},
            5,
        ),
    ],
)
def test_a_trainer_that_accumulates_ends_the_schedule_and_is_told_how_to_contrast_all_pairs(
    option, steps
):
    schedule = partial(rate_factor, keys=Optimizer(warmup_steps=2), total=8)
    module = ContrastiveModule(FewWeights(), loss=pulled, keep_share=1.0, rate_factor=schedule)
    pairs = DataLoader([pair(0)] * 4 * BATCH, batch_size=BATCH, collate_fn=collated)
    trainer = Trainer(**QUIET, **option, log_every_n_steps=1)
    with pytest.warns(Caveat, match="1/2 of those .* set trainer.accumulate_grad_batches=2"):
        trainer.fit(module, pairs)
    assert trainer.global_step == module.steps_planned == steps
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0)


class Normed(nn.Module):
    """A dual encoder of a linear layer a side on an image's mean colours, with batch norm, which
    mixes whatever images it is given.
    """

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

    def forward(
        self, images: Tensor, texts: list[str], *, keep: Tensor, dense: bool = False
    ) -> Embeddings:
        self.keeps.append(keep)
        image = self.image(self.norm(images.to(self.image.weight.dtype).mean(dim=(2, 3))))
        text = self.text(torch.tensor([int(text) for text in texts]))
        return Embeddings(
            functional.normalize(image, dim=1),
            functional.normalize(text, dim=1),
            parts=keep.shape[1],
        )


def stepped(batch: dict) -> tuple[Tensor, Normed]:
    """The loss of one step on a batch, and the model with its gradients."""
    model = Normed().double()
    loss = partial(contrastive_loss, directions="sum", equal_texts="negatives")
    module = build(model, loss=loss)
    module._is_logged = lambda: False  # needs a trainer
    module.print = lambda *_: None
    found = module.training_step(batch, 0)
    torch.autograd.backward(found)
    return found.detach(), model


def test_a_step_equals_that_on_the_valid_pairs_alone():
    rows = torch.tensor([0, 2, 3, 5])
    valid = torch.zeros(6, dtype=torch.bool).index_fill(0, rows, True)
    batch = {
        "image": random_pixels(6, 3, 8, 8) * valid[:, None, None, None],
        "text": ["0", "", "2", "3", "", "5"],
        "place": ["", "1", "", "", "4", ""],
        "valid": valid,
    }
    batch |= {
        "sample_id": torch.arange(6),
        "epoch": torch.ones(6, dtype=torch.int64),
        "valid_count": 4,
    }
    alone = {key: batch[key][rows] for key in ("image", "sample_id", "epoch", "valid")} | {
        "text": ["0", "2", "3", "5"],
        "valid_count": 4,
    }
    (loss, model), (expected, other) = stepped(batch), stepped(alone)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert model.keeps[0].equal(other.keeps[0])
    for (name, found), (_, right) in zip(
        model.named_parameters(), other.named_parameters(), strict=True
    ):
        torch.testing.assert_close(found.grad, right.grad, rtol=1e-10, atol=1e-14, msg=name)
    torch.testing.assert_close(model.norm.running_mean, other.norm.running_mean, rtol=0, atol=0)


def test_a_run_that_is_ended_between_two_logged_steps_logs_the_loss_of_its_last_step():
    noted, each = Noted(), Noted()
    trained(FewWeights(), every=2, steps=8, more=(Stops(),), logger=noted)
    trained(FewWeights(), every=1, steps=3, logger=each)
    assert noted.losses == {step: each.losses[step] for step in (1, 2)}


def test_a_compiled_step_embeds_bad_rows_too_so_that_its_shapes_stay():
    module, sizes = trained(FewWeights(), steps=1)[0], []
    module.static_shapes = True
    module.model.register_forward_hook(lambda model, inputs, output: sizes.append(len(inputs[0])))
    module._is_logged = lambda: False
    batch = collated([pair(0), pair(1), pair(2)]) | {
        "valid": torch.tensor([True, False, True]),
        "valid_count": 2,
    }
    module.training_step(batch, 0)
    assert sizes == [3]
