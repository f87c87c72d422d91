"""The cache of prompt embeddings: the same bits, verified when read, bounded, and made anew where anything differs."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from gestalt.evaluation import prompt_cache, prompts
from gestalt.evaluation.prompt_cache import PromptCache, cache_folder
from gestalt.evaluation.prompts import class_embeddings
from gestalt.evaluation.protocols import build_protocol
from tests.gestalt.painted import Words

PHRASES = tuple(f"thing {number}" for number in range(6))
LABELS = Words(PHRASES, prompts=tuple((phrase,) for phrase in PHRASES))
PROTOCOL = build_protocol("whole_square", templates=("a {}", "the {}"))


class Tower(nn.Module):
    """Embeds a text by the sum of its letters' vectors; each call is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(128, 4)

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        return [list(text.encode()) for text in texts]


class Model(nn.Module):
    """The text side of a dual encoder."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.text = Tower()
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.passes = 0

    @property
    def text_tower(self) -> Tower:
        return self.text

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> torch.Tensor:
        self.passes += 1
        vectors = torch.stack([self.text.letters(torch.tensor(tokens)).sum(0) for tokens in self.text.tokenise(texts)])
        return nn.functional.normalize(vectors, dim=-1) if normalise else vectors


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


def test_a_second_call_reads_identical_vectors_from_the_cache_after_one_text_pass(tmp_path):
    model, cache = Model(), PromptCache(tmp_path / "new" / "folder")
    without, passes = embedded(model, None)
    first, made = embedded(model, cache)
    second, read = embedded(Model(), PromptCache(tmp_path / "new" / "folder"))
    assert (passes, made, read) == (3, 3, 1)
    assert torch.equal(first, without)
    assert torch.equal(second, without)


def test_vectors_of_a_model_without_a_separate_text_tower_are_not_cached(tmp_path):
    class Other(Model):
        text_tower = property(None)  # hides the dual encoder's

    vectors, passes = embedded(Other(), PromptCache(tmp_path))
    assert passes == 3
    assert torch.equal(vectors, embedded(Model(), None)[0])
    assert list(tmp_path.iterdir()) == []


def test_small_sets_of_prompts_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "LARGE", 13)
    assert embedded(Model(), PromptCache(tmp_path))[1] == 3
    assert list(tmp_path.iterdir()) == []


def other_weights(model):
    with torch.no_grad():
        model.text.letters.weight[ord("t")] += 1


def other_tokens(model):
    model.text.tokenise = lambda texts: [list(text.upper().encode()) for text in texts]


def other_type(model):
    model.text.letters.double()


def other_code(model):
    embed = model.embed_text
    model.embed_text = lambda texts, **keywords: embed(texts, **keywords).flip(1)  # detected by the first prompts, not by the key


@pytest.mark.parametrize("change", [other_weights, other_tokens, other_type, other_code])
def test_vectors_of_a_changed_text_tower_are_not_reused(tmp_path, change):
    cache = PromptCache(tmp_path)
    embedded(Model(), cache)
    changed = Model()
    change(changed)
    expected = embedded(changed, None)[0]
    vectors, passes = embedded(changed, cache)
    assert passes == 3
    assert torch.equal(vectors, expected)


def test_other_phrases_templates_and_ensembling_have_other_keys(tmp_path):
    model, cache = Model(), PromptCache(tmp_path)
    texts = ["a thing", "the thing"]
    keys = {cache.key(model, texts, settings=[4, 2, "raw_mean"]), cache.key(model, texts[::-1], settings=[4, 2, "raw_mean"])}
    keys |= {cache.key(model, texts, settings=[4, 1, "raw_mean"]), cache.key(model, texts, settings=[4, 2, "normalised_mean"])}
    assert len(keys) == 4


def cut_short(path):
    path.write_bytes(path.read_bytes()[:100])


def flipped(path):
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays["vectors"][3, 2] += 1
    np.savez(path, **arrays)


def other_shape(path):
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays["vectors"] = arrays["vectors"][:2]
    arrays["sha256"] = np.array(prompt_cache._hash(arrays["vectors"], arrays["first"]))
    np.savez(path, **arrays)


@pytest.mark.parametrize("damage", [cut_short, flipped, other_shape, lambda path: path.write_text("")])
def test_a_damaged_cache_file_is_rebuilt(tmp_path, damage):
    cache = PromptCache(tmp_path)
    expected = embedded(Model(), cache)[0]
    (path,) = tmp_path.iterdir()
    damage(path)
    vectors, passes = embedded(Model(), cache)
    assert passes == 3
    assert torch.equal(vectors, expected)
    assert embedded(Model(), cache)[1] == 1


def test_the_folder_is_bounded_and_loses_what_was_used_longest_ago(tmp_path):
    for seed in range(2):
        embedded(Model(seed), PromptCache(tmp_path))
    first, second = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    assert embedded(Model(0), PromptCache(tmp_path))[1] == 1  # a use, which makes it the newest
    embedded(Model(2), PromptCache(tmp_path, most_bytes=first.stat().st_size * 2 + 1))
    assert first.exists()
    assert not second.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_an_unwritable_cache_folder_is_reported_in_one_line_and_does_not_change_vectors(tmp_path, capsys):
    (tmp_path / "file").touch()
    vectors, passes = embedded(Model(), PromptCache(tmp_path / "file" / "prompts"))
    assert passes == 3
    assert torch.equal(vectors, embedded(Model(), None)[0])
    message = capsys.readouterr().err
    assert "cannot be written" in message
    assert "evaluation.prompt_cache=false" in message
    assert message.count("\n") == 1


def test_the_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/a/user")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("GESTALT_CACHE", raising=False)
    assert str(cache_folder()) == "/a/user/.cache/gestalt"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    assert str(cache_folder()) == "/scratch/cache/gestalt"
    monkeypatch.setenv("GESTALT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_progress_bar_is_shown_after_a_delay_if_requested(monkeypatch, capsys):
    embedded(Model(), None, progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(prompts, "BAR_AFTER", 0.0)
    embedded(Model(), None)
    assert capsys.readouterr().err == ""
    embedded(Model(), None, progress=True)
    assert "12 prompts" in capsys.readouterr().err


def test_a_measure_reads_the_cache_except_while_the_text_tower_trains(tmp_path, monkeypatch):
    from lightning.pytorch.trainer.states import TrainerFn

    from gestalt.measures.segmentation.callback import Segmentation

    monkeypatch.setenv("GESTALT_CACHE", str(tmp_path))

    def scored(*, stage, model, **options):
        scorer = Segmentation("painted", labels=LABELS, protocol=PROTOCOL, **options)
        trainer = SimpleNamespace(state=SimpleNamespace(fn=stage), is_global_zero=True, progress_bar_callback=None)
        scorer.on_validation_epoch_start(trainer, SimpleNamespace(model=model, device=torch.device("cpu")))
        return model.passes

    assert scored(stage=TrainerFn.VALIDATING, model=Model()) == 3
    assert not list(tmp_path.rglob("*.npz"))
    assert scored(stage=TrainerFn.FITTING, model=Model(), prompt_cache=True) == 3
    assert not list(tmp_path.rglob("*.npz"))
    assert scored(stage=TrainerFn.VALIDATING, model=Model(), prompt_cache=True) == 3
    assert len(list((tmp_path / "prompts").glob("*.npz"))) == 1
    assert scored(stage=TrainerFn.VALIDATING, model=Model(), prompt_cache=True) == 1
    frozen = Model()
    frozen.text.requires_grad_(False)
    assert scored(stage=TrainerFn.FITTING, model=frozen, prompt_cache=True) == 1
