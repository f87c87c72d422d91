"""Deterministic training is refused on CUDA where torch has no deterministic gradient, before
anything is loaded.
"""

import pytest
import torch

from gestalt.runs.training import check_deterministic
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config

DETERMINISTIC = ("trainer.deterministic=true", "trainer.accelerator=auto")
WORDS = (*DETERMINISTIC, "image.train_size=64", "image.eval_size=32")


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_resized_position_embeddings_are_refused_in_one_line(cuda):
    with pytest.raises(
        ConfigError,
        match=r"trainer\.deterministic=True: on CUDA .*; .*as image\.eval_size, ",
    ):
        check_deterministic(tiny_config(*WORDS))


def test_deterministic_mode_is_accepted_where_no_position_is_resized(cuda, monkeypatch):
    for word in (
        "trainer.deterministic=false",
        "trainer.accelerator=cpu",
        "image.train_size=32",
        "image.subsampling=false",
        "image.frozen=true",
    ):
        check_deterministic(tiny_config(*WORDS, word))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_deterministic(tiny_config(*WORDS))
