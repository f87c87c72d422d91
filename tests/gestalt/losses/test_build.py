"""Terms of the loss in a run: the list of nouns, the loader's fields, micro-batches, bad pairs,
checkpoints.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from gestalt.aggregation import mean_of_parts
from gestalt.config.schema import Experiment, config_hash
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.sources import Source
from gestalt.encoders.checkpoints import read_checkpoint
from gestalt.losses.build import OPTIONS, RUN, RUNS, build_loss, list_nouns
from gestalt.losses.keys import Loss
from gestalt.losses.noun_list import NounList
from gestalt.losses.terms import Pairs, Term
from gestalt.models.opening import load_checkpoint_model
from gestalt.models.start import build_model
from gestalt.module import ContrastiveModule
from gestalt.runs.source import build_source
from gestalt.runs.training import caption_reader
from gestalt.support.typed import ConfigError
from gestalt.tables import LOSSES, TERMS, FurtherTerm, LossOfPairs
from tests.gestalt.at_step import alone, build_module
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_config import tiny_config

ALL = "loss.terms={nouns: 1.0, self_distillation: 0.5}"
NOUNS = NounList(["cat", "dog", "house"])
CAPTIONS = ["a dog", "two cats", "", "a house and a dog", "nothing", "a dog"]


def configured(*words: str) -> Experiment:
    return tiny_config(ALL, *words)


def module_of(config: Experiment) -> ContrastiveModule:
    """Return the module of a run, float64, without its trainer."""
    module = build_module(
        config, build_model(config).double(), total_steps=10, nouns=NOUNS
    ).double()
    return alone(module).train()


def batch(model: Any) -> dict[str, Any]:
    """Return pairs as the loader gives them, one of them bad."""
    rows = len(CAPTIONS)
    images = random_pixels(rows, 3, 64, 64, seed=1)
    drawn = {"sample_id": torch.arange(rows), "epoch": torch.zeros(rows, dtype=torch.int64)}
    valid = torch.tensor([bool(text) for text in CAPTIONS])
    fields = caption_reader(model, nouns=NOUNS)(CAPTIONS)
    return {
        "image": images,
        "text": CAPTIONS,
        **drawn,
        "valid": valid,
        "valid_count": int(valid.sum()),
        "place": ["" if good else "a place" for good in valid.tolist()],
        **fields,
    }


def gradients(config: Experiment) -> dict[str, torch.Tensor]:
    module = module_of(config)
    loss = module.training_step(batch(module.model), 0)
    torch.autograd.backward(loss)
    return {
        "loss": loss.detach(),
        **{name: value.grad for name, value in module.named_parameters() if value.grad is not None},
    }


@pytest.mark.parametrize("frozen", ["text.frozen=false", "text.frozen=true"])
def test_micro_batches_change_neither_loss_nor_gradient(frozen):
    whole, parts = (
        gradients(configured(frozen)),
        gradients(configured(frozen, "trainer.accumulate_grad_batches=3")),
    )
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-7)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    def loss(*words: str) -> float:
        module = module_of(tiny_config(*words))
        return module.training_step(batch(module.model), 0).item()

    pairs = loss()
    nouns, patches = (
        loss(f"loss.terms={{{name}: 1.0}}") - pairs for name in ("nouns", "self_distillation")
    )
    assert loss(ALL) == pytest.approx(pairs + nouns + 0.5 * patches)


def test_a_loss_refuses_the_options_that_it_does_not_name_and_is_not_given_them(monkeypatch):
    row = LossOfPairs("plain", target=lambda image, text, *, equal_texts, **others: None)
    monkeypatch.setitem(LOSSES.built_in, "plain", row)
    changed = Loss("plain", equal_texts="positives")
    assert build_loss(changed).keywords == {"equal_texts": "positives"}
    for option, value, default in (("chunk", 64, "null"), ("directions", "mean", "sum")):
        message = f"loss.{option}={value}: loss.name=plain has no argument of this name; choose "
        with pytest.raises(ConfigError, match=message + default):
            build_loss(replace(changed, **{option: value}))
    for name in LOSSES.built_in.keys() - {"plain"}:
        assert set(build_loss(Loss(name, chunk=4)).keywords) == set(OPTIONS)


def test_a_frozen_text_tower_encodes_the_nouns_once():
    module = module_of(configured("text.frozen=true"))
    encoded: list[int] = []
    module.model.text_tower.register_forward_hook(
        lambda tower, inputs, tokens: encoded.append(len(tokens.parts))
    )
    losses = [module.training_step(batch(module.model), 0) for _ in range(2)]
    captions = len(CAPTIONS) - 1
    assert encoded == [captions, len(NOUNS), captions]
    assert losses[0].item() == losses[1].item()
    torch.autograd.backward(losses[1])
    assert float(module.model.text.projection.linear.weight.grad.abs().sum()) > 0


def test_nouns_are_alike_from_a_cosine_of_the_text_towers_embeddings_on():
    model = build_model(configured())
    with torch.no_grad():
        vectors = mean_of_parts(
            model.text_tower.eval()(
                model.text_tower.pad([f"a photo of a {noun}" for noun in NOUNS.nouns])
            )
        )
    cosines = functional.cosine_similarity(vectors.unsqueeze(1), vectors, dim=-1)
    least, _, largest = sorted(
        cosines[row, column].item() for row, column in ((0, 1), (0, 2), (1, 2))
    )
    config = configured(f"loss.nouns_alike={largest - 1e-6}")
    term = build_module(config, model.train(), total_steps=10, nouns=NOUNS).terms["nouns"]
    assert model.text_tower.training
    assert torch.equal(term.similar, (cosines > largest - 1e-6) | torch.eye(3, dtype=torch.bool))
    assert int(term.similar.sum()) == 5
    assert (
        build_module(configured(), model, total_steps=10, nouns=NOUNS).terms["nouns"].similar
        is None
    )
    with pytest.raises(
        ConfigError,
        match=r"3 of 3 nouns are like every other noun, which leaves them no negative; raise "
        r"loss\.nouns_alike, or",
    ):
        build_module(
            configured(f"loss.nouns_alike={least - 1e-6}"), model, total_steps=10, nouns=NOUNS
        )


def test_terms_without_nouns_leave_the_loader_alone():
    config = tiny_config("loss.terms={self_distillation: 1.0}")
    assert list_nouns(config.loss, build_source(config)) is None
    assert "nouns" not in caption_reader(build_model(config))(["a dog"])


class Scaled(Term):
    """A term with a parameter: the mean length of the patches, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, pairs: Pairs) -> torch.Tensor:
        return self.scale * pairs.patches.norm(dim=-1).mean()


def test_parameters_of_terms_learn_and_stay_out_of_the_model(tmp_path, monkeypatch):
    monkeypatch.setitem(
        TERMS.built_in, "scaled", FurtherTerm("scaled", target=lambda parts: Scaled())
    )
    plain = configured()
    config = replace(plain, loss=replace(plain.loss, terms={"scaled": 1.0}))
    module = module_of(config)
    optimizer = module.make_optimizer(module.model, module.terms)
    (group,) = [group for group in optimizer.param_groups if group["name"].startswith("terms.")]
    assert (group["weight_decay"], group["lr"]) == (0.0, config.optimizer.learning_rate)
    torch.autograd.backward(module.training_step(batch(module.model), 0))
    assert float(group["params"][0].grad) > 0
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": module.float().state_dict()}, path)
    assert "terms.scaled.scale" in module.state_dict()
    assert set(load_checkpoint_model(path, config, read_checkpoint(path)).state_dict()) == set(
        module.model.state_dict()
    )


@pytest.mark.parametrize(
    ("on", "option", "hashed"),
    [
        ("", "loss.terms={nouns: 0.0}", False),
        ("", ALL, True),
        ("", "loss.nouns_most=7", False),
        (ALL, "loss.nouns_most=7", True),
        ("loss.terms={reads: 1.0}", "loss.nouns_most=7", True),
        ("loss.terms={reads: 1.0}", "loss.nouns_least_share=0.1", True),
        ("loss.terms={reads: 1.0}", "loss.nouns_alike=0.75", True),
        # which the term reads only for nouns that are alike
        ("loss.terms={reads: 1.0}", "loss.nouns_phrase=the {}", False),
        ("loss.terms={reads: 1.0};loss.nouns_alike=0.75", "loss.nouns_phrase=the {}", True),
        ("loss.terms={nouns_of_images: 1.0}", "loss.nouns_phrase=the {}", True),
        ("loss.terms={reads: 1.0}", "loss.nouns_pooling=softmax", False),
    ],
)
def test_options_are_hashed_with_a_term_that_reads_them(on, option, hashed, monkeypatch):
    monkeypatch.setitem(TERMS.built_in, "reads", FurtherTerm("reads", reads_nouns=True))
    words = on.split(";") if on else []
    plain, other = (config_hash(tiny_config(*words, *more)) for more in ([], [option]))
    assert (plain != other) == hashed


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.terms={noun: 1.0}", r"loss\.terms\.noun=1\.0: not a term of the loss; .*nouns"),
        (
            "loss.terms={nouns: -1.0}",
            r"loss\.terms\.nouns=-1\.0: choose a number that is at least 0; 0 leaves the term out",
        ),
        (
            "trainer.compile=step loss.terms={self_distillation: 1.0}",
            r"trainer\.compile=step: loss\.terms\.self_distillation: masks",
        ),
        (
            "image.frozen=true loss.terms={self_distillation: 1.0}",
            r"image\.frozen=True: loss\.terms\.self_distillation: a frozen tower",
        ),
        (
            "text.init=random loss.nouns_alike=0.75",
            r"loss\.nouns_alike=0\.75: a random text tower does not know which nouns are alike",
        ),
        ("loss.nouns_phrase=a", r"loss\.nouns_phrase=a: choose a text with {} in it"),
    ],
)
def test_invalid_term_options_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(
            *(word.split(" ", 1) if word.startswith(("trainer", "image", "text")) else [word])
        )


def test_nouns_of_scenes_are_their_objects_and_backgrounds():
    config = configured("data.limit=2000")
    nouns = list_nouns(config.loss, build_source(config))
    assert {"dog", "butterfly", "grass", "snow", "wall"} <= set(nouns.nouns)
    assert not {"photo", "two", "front", "dogs"} & set(nouns.nouns)


class Texts(Source):
    """Captions alone; every third pair cannot be read."""

    def __init__(self, count: int, *, in_sequence: bool = False) -> None:
        self.count, self.in_sequence, self.indices = count, in_sequence, []

    def __len__(self) -> int:
        return self.count

    def digest(self) -> str:
        return "texts"

    def pair(self, index: int, epoch: int) -> tuple[torch.Tensor, str]:
        raise AssertionError("an image was drawn")

    def texts(self, index: int) -> list[str]:
        self.indices.append(index)
        if index % 3 == 0:
            raise BadSample("empty_caption", where="here", key=str(index))
        return ["a dog", "a cat"] if index % 3 == 1 else ["things"]


def test_nouns_are_counted_on_captions_spread_over_the_data():
    source = Texts(20 * RUNS * RUN + 7)
    nouns = list_nouns(configured().loss, source)
    assert {"cat", "dog"} <= set(nouns.nouns)
    assert (source.indices[0], source.indices[-1], len(source.indices)) == (
        0,
        len(source) - 1,
        RUNS * RUN,
    )
    assert source.indices == sorted(set(source.indices))
    small = Texts(30)
    list_nouns(configured().loss, small)
    assert small.indices == list(range(30))


def test_data_without_nouns_or_read_in_sequence_are_refused():
    with pytest.raises(
        ConfigError,
        match=r"captions name 0 .*are needed; lower loss\.nouns_least_share=1\.0",
    ):
        list_nouns(configured("loss.nouns_least_share=1.0").loss, Texts(30))
    with pytest.raises(
        ConfigError,
        match=r"loss\.terms\.\w+=1\.\d: data\.root is read in sequence.*name local tars instead",
    ):
        list_nouns(configured().loss, Texts(30, in_sequence=True))
