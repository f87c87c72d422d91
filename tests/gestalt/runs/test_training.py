"""Captions are hashed and tokenised by the loader; the step equals that with captions tokenised by
the text tower.
"""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.sources import Source
from gestalt.losses.captions import text_ids
from gestalt.losses.noun_list import NounList
from gestalt.models.start import build_model
from gestalt.runs.train import _fit, next_commands
from gestalt.runs.training import caption_reader
from tests.gestalt.at_step import QUIET, build_module
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_config import tiny_config

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*use of fork.*"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training.*"),
]
NOUNS = NounList(["bread", "cat", "dog", "horse", "sofa"])
CAPTIONS = [
    "a dog",
    "two cats that sleep on a blue sofa in the evening sun",
    "",
    "a dog",
    "bread and butter " * 40,
    "",
    "snow",
]


class Captioned(Source):
    """Images of noise with ``CAPTIONS``; those without a text are bad."""

    def __len__(self) -> int:
        return 14

    def digest(self) -> str:
        return "captioned"

    def pair(self, index: int, epoch: int) -> tuple[torch.Tensor, str]:
        text = CAPTIONS[index % 7]
        if not text:
            raise BadSample("empty_caption", where="here", key=str(index))
        return random_pixels(3, 32, 32, seed=index), text


def prepared(name: str, *, tokenised: bool, workers: int = 0) -> tuple[Any, Any]:
    config = tiny_config("image.train_size=32", "image.eval_size=32", name=name)
    torch.manual_seed(0)
    model = build_model(config)
    data = ImageTextDataModule(Captioned(), size=32, batch_size=7, workers=workers, seed=0)
    if tokenised:
        data.pairs.read_captions = caption_reader(model, nouns=NOUNS)
    return build_module(config, model, total_steps=20), data


def losses(name: str, *, tokenised: bool) -> list[float]:
    """Train two steps; every batch has bad pairs."""
    module, data = prepared(name, tokenised=tokenised)
    trainer = Trainer(max_steps=2, limit_val_batches=0, **QUIET)
    seen: list[float] = []
    module.on_train_batch_end = lambda outputs, batch, index: seen.append(float(outputs["loss"]))
    trainer.fit(module, datamodule=data)
    return seen


@pytest.mark.parametrize("name", ["clippy_dino_max", "clip_baseline"])
def test_the_losses_are_those_of_captions_tokenised_in_the_step(name):
    assert losses(name, tokenised=True) == losses(name, tokenised=False)


def test_a_worker_reads_captions_as_the_training_process_does_and_no_pool_of_threads_is_forked(
    monkeypatch,
):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    batches = [
        list(prepared("clippy_dino_max", tokenised=True, workers=workers)[1].train_dataloader())
        for workers in (0, 1)
    ]
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    for alone, forked in zip(*batches, strict=True):
        assert alone["text_id"].equal(text_ids(alone["text"]))
        assert alone["token_mask"].shape == alone["token_ids"].shape
        assert all(
            alone[key].equal(forked[key]) for key in ("text_id", "token_ids", "token_mask", "nouns")
        )
        # bad pairs too, so that no row is without tokens
        assert alone["token_mask"].any(dim=1).all()


def test_a_worker_holds_no_copy_of_the_weights():
    module, _ = prepared("clippy_dino_max", tokenised=False)
    reader = caption_reader(module.model)
    assert not list(reader.keywords["tower"].parameters())
    again = pickle.loads(pickle.dumps(reader))
    assert again(["a dog", ""])["token_ids"].equal(reader(["a dog", "a dog"])["token_ids"])


def test_a_batch_without_a_caption_has_no_tokens():
    module, _ = prepared("clippy_dino_max", tokenised=False)
    assert caption_reader(module.model)(["", ""]).keys() == {"text_id"}


def test_a_photograph_is_proposed_only_to_a_model_that_has_seen_other_pictures_than_scenes():
    scenes = next_commands(tiny_config(), Path("RUN"))
    assert "gestalt eval RUN scenes --protocols whole_square,sclip-336\n" in scenes
    assert "segment" not in scenes
    own = "image.aggregation=python:gestalt.aggregation:mean_of_parts"
    config = tiny_config("data.source=flickr", "data.root=DIR", own)
    photographs = next_commands(config, Path("RUN"))
    assert f'gestalt segment photo.jpg --labels "background, dog, cat" --model RUN {own}\n' in (
        photographs
    )
    assert "eval" not in photographs


def test_a_run_returns_the_step_that_it_was_resumed_from(monkeypatch):
    saved = {"optimizer_states": [{"state": {}}], "global_step": 5}
    monkeypatch.setattr("gestalt.runs.train.read_resumable", lambda path: saved)
    trainer = SimpleNamespace(global_step=8, fit=lambda *_, **__: None)
    module = SimpleNamespace(parameters=list, validated_step=8)
    parts = SimpleNamespace(module=module, data=None, total_steps=8)
    assert [_fit(trainer, parts, resumed) for resumed in (None, Path("last.ckpt"))] == [None, 5]
