"""Names that only timm knows are checked before any data or weights are read."""

import pytest

from gestalt.building.model import check_names
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError

CC12M = ["data.root=x", "benchmark_root=x"]


@pytest.mark.parametrize("tag", ["augreg_in21k", "dino", "sam_in1k"])
def test_a_tag_of_the_backbone_is_an_init(tag: str) -> None:
    check_names(load("clippy_dino_max", scale="cc12m", overrides=[*CC12M, f"image.init={tag}"]))


def test_an_init_word_can_be_mapped_to_a_tag() -> None:
    check_names(load("clippy_dino_max", scale="cc12m", overrides=[*CC12M, "image.inits.dino=augreg_in21k"]))


@pytest.mark.parametrize("words", [["image.init=augreg_in21"], ["image.inits.dino=augreg_in21"]])
def test_an_unknown_tag_is_refused_with_the_nearest(words: list[str]) -> None:
    config = load("clippy_dino_max", scale="cc12m", overrides=[*CC12M, *words])
    with pytest.raises(ValueError, match=r"image\.init 'augreg_in21' is unknown: did you mean 'augreg_in21k'\?.* sam_in1k"):
        check_names(config)


@pytest.mark.parametrize("words", [["image.init=augreg_in21k"], ["image.inits.dino=augreg_in21k"]])
def test_a_tag_does_not_fit_a_changed_architecture(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"image\.init.*=augreg_in21k"):
        load("clippy_dino_max", scale="demo", overrides=words)


def test_a_word_that_a_scale_lacks_is_refused_though_timm_has_it() -> None:
    with pytest.raises(ConfigError, match=r"image\.init=mae: not available at scale photos"):
        load("clippy_random_max", scale="photos", overrides=["data.root=x", "benchmark_root=x", "image.init=mae"])
