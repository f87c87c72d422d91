"""The cache of prompt embeddings: the same bits, and made anew where anything differs."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.evaluation import prompts
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.model import DualEncoder
from tests.gestalt.painted import Words

PHRASES = tuple(f"thing {number}" for number in range(6))
LABELS = Words(PHRASES, prompts=tuple((phrase,) for phrase in PHRASES))
PROTOCOL = top_down_protocol("whole_square", templates=("a {}", "the {}"))


class Tower(nn.Module):
    """Embeds a text by the sum of its letters' vectors; each call is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(128, 4)

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]


class Model(DualEncoder):
    """The text side of a dual encoder."""

    patch_stride = (1, 1)
    cuts_text = False

    def __init__(self, seed: int = 0) -> None:
        nn.Module.__init__(self)
        torch.manual_seed(seed)
        self.text = Tower()
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.passes = 0

    @property
    def text_tower(self) -> Tower:
        return self.text

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> torch.Tensor:
        self.passes += 1
        vectors = torch.stack(
            [self.text.letters(torch.tensor(tokens)).sum(0) for tokens in self.text.tokenise(texts)]
        )
        return nn.functional.normalize(vectors, dim=-1) if normalise else vectors

    embed_text_for_locations = embed_text


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Twelve prompts are many, four at a time."""
    monkeypatch.setattr(prompts, "LARGE", 12)
    monkeypatch.setattr(prompts, "TEXTS_AT_ONCE", 4)


def embedded(model, cache, **keywords):
    """The class vectors, and the passes of the text tower that they took."""
    before = model.passes
    vectors = class_embeddings(model, LABELS, protocol=PROTOCOL, cache=cache, **keywords).vectors
    return vectors, model.passes - before


def test_a_second_call_reads_identical_vectors_from_the_cache(tmp_path):
    model, cache = Model(), tmp_path / "new" / "folder"
    without, passes = embedded(model, None)
    first, written = embedded(model, cache)
    second, read = embedded(Model(), tmp_path / "new" / "folder")
    assert (passes, written, read) == (3, 3, 0)
    assert torch.equal(first, without)
    assert torch.equal(second, without)


def test_vectors_of_a_model_without_a_separate_text_tower_are_not_cached(tmp_path):
    class Other(DenseModel):
        passes, text, embed_text = 0, Model().text, Model.embed_text

    vectors, passes = embedded(Other(), tmp_path)
    assert passes == 3
    assert torch.equal(vectors, embedded(Model(), None)[0])
    assert list(tmp_path.iterdir()) == []


def other_weights(model):
    with torch.no_grad():
        model.text.letters.weight[ord("t")] += 1


def other_tokens(model):
    model.text.tokenise = lambda texts: [list(text.upper().encode()) for text in texts]


def other_type(model):
    model.text.letters.double()


@pytest.mark.parametrize("change", [other_weights, other_tokens, other_type])
def test_vectors_of_a_changed_text_tower_are_not_reused(tmp_path, change):
    cache = tmp_path
    embedded(Model(), cache)
    changed = Model()
    change(changed)
    expected = embedded(changed, None)[0]
    vectors, passes = embedded(changed, cache)
    assert passes == 3
    assert torch.equal(vectors, expected)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01"])
def test_a_damaged_cache_file_is_rebuilt(tmp_path, content):
    expected = embedded(Model(), tmp_path)[0]
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    vectors, passes = embedded(Model(), tmp_path)
    assert passes == 3
    assert torch.equal(vectors, expected)
    assert embedded(Model(), tmp_path)[1] == 0


def test_an_unwritable_cache_folder_is_reported_in_one_line_and_does_not_change_vectors(
    tmp_path, capsys
):
    (tmp_path / "file").touch()
    vectors, passes = embedded(Model(), tmp_path / "file" / "prompts")
    assert passes == 3
    assert torch.equal(vectors, embedded(Model(), None)[0])
    message = capsys.readouterr().err
    assert "cannot be written" in message
    assert "evaluation.prompt_cache=false" in message
    assert message.count("\n") == 1


def test_a_measure_reads_the_cache_except_while_the_text_tower_trains(tmp_path, monkeypatch):
    from lightning.pytorch.trainer.states import TrainerFn

    from gestalt.measures.segmentation.callback import Segmentation
    from tests.gestalt.measures.stage import context

    monkeypatch.setenv("GESTALT_CACHE", str(tmp_path))

    def scored(*, stage, model, prompt_cache=True):
        on = context(labels=LABELS, prompt_cache=prompt_cache, protocol=PROTOCOL)
        scorer = Segmentation(on)
        trainer = SimpleNamespace(
            state=SimpleNamespace(fn=stage), is_global_zero=True, progress_bar_callback=None
        )
        scorer.on_validation_epoch_start(
            trainer, SimpleNamespace(model=model, device=torch.device("cpu"))
        )
        return model.passes

    frozen = Model()
    frozen.text.requires_grad_(False)
    assert scored(stage=TrainerFn.VALIDATING, model=Model(), prompt_cache=False) == 3
    assert scored(stage=TrainerFn.FITTING, model=Model()) == 3
    assert not list(tmp_path.rglob("*.npy"))
    assert scored(stage=TrainerFn.VALIDATING, model=Model()) == 3
    assert scored(stage=TrainerFn.VALIDATING, model=Model()) == 0
    assert scored(stage=TrainerFn.FITTING, model=frozen) == 0
