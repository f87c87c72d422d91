"""Names that only timm knows are checked before any data or weights are read."""

import pytest
import torch

from gestalt.config.loading import load
from gestalt.models.building import SkipInit
from gestalt.models.start import check_names
from gestalt.support.typed import ConfigError


def cc12m(word):
    overrides = ["data.root=x", "benchmark_root=x", word]
    return load("clippy_dino_max", scale="cc12m", overrides=overrides)


@pytest.mark.parametrize("word", ["image.init=augreg_in21", "image.inits.dino=augreg_in21"])
def test_a_tag_is_an_init_and_an_unknown_one_is_refused_with_the_nearest(word):
    config = cc12m(word)
    check_names(cc12m(f"{word}k"))
    with pytest.raises(
        ValueError,
        match=r"image\.init 'augreg_in21' is unknown: did you mean 'augreg_in21k'\?.* sam_in1k",
    ):
        check_names(config)


def test_a_training_size_that_patches_do_not_divide_is_refused_with_its_key():
    config = cc12m("image.train_size=450")
    with pytest.raises(
        ConfigError, match=r"image\.train_size=450: choose a multiple of .* 16 x 16"
    ):
        check_names(config)


def test_a_truncated_normal_ends_whatever_the_memory_held():
    held = torch.full((4,), 1e30)
    with SkipInit():
        assert torch.nn.init.trunc_normal_(held, mean=0.5).tolist() == [0.5] * 4
