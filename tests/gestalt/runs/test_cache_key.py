"""A cache of something else is refused with the reason, before torch is imported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gestalt.config.check import check_training
from gestalt.config.schema import Experiment
from gestalt.data_modules.pixels.augment import crop_box
from gestalt.runs.cache_key import FILE, Description, check_cache, key_of
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config

WORDS = ["image.frozen_blocks=1", "data.crops=2", "text.frozen=true"]


def config(*words: str, folder: Path | None = None) -> Experiment:
    return tiny_config(
        *WORDS, *([f"data.features={folder}"] if folder else []), *words, name="clippy_random_max"
    )


def described(*words: str, complete: bool = True) -> Description:
    made = config(*words)
    return Description(key_of(made), "float32", [33, 32], "float32", complete=complete)


DIFFERENCES = {
    "data.crops=1": "data.crops is 1, but the cache has 2",
    "seed=1": "seed is 1, but the cache has 0",
    "image.frozen_blocks=2": "image.frozen_blocks is 2, but the cache has 1",
    "image.train_size=32": "image size is 32, but the cache has 64",
    "image.keep_tokens=0.25": "share of kept tokens is 0.25, but the cache has 0.5",
    "image.subsampling=false": (
        "image size is 32, but the cache has 64; share of kept tokens is 1.0, but the cache has 0.5"
    ),
    "image.width=16": "image.width is 16, but the cache has 32",
    "trainer.precision=bf16-mixed": "trainer.precision is bf16-mixed, but the cache has 32-true",
}


def test_a_cache_of_another_configuration_is_refused_with_the_difference(tmp_path):
    described().write(tmp_path)
    for word, message in DIFFERENCES.items():
        with pytest.raises(ConfigError) as error:
            check_cache(config(word, folder=tmp_path))
        assert (
            f"data.features={tmp_path}: made for another run: {message}; choose the cache's "
            "values, or make another" in str(error.value)
        )


def test_keys_that_features_do_not_depend_on_may_differ(tmp_path):
    described().write(tmp_path)
    for word in (
        "image.aggregation=avg",
        "loss.name=sigmoid",
        "data.batch_size=8",
        "text.frozen=false",
        "text.max_length=8",
    ):
        check_cache(config(word, folder=tmp_path))


WHOLE = ["data.source=flickr", "data.root=DIR", "data.crop_scale=[1.0,1.0]"]


def test_a_seed_that_draws_nothing_may_differ(tmp_path):
    whole = [*WHOLE, "image.subsampling=false"]
    older = replace(described(*whole), key={**key_of(config(*whole)), "seed": 0})
    for cache in (described(*whole), older):
        cache.write(tmp_path)
        check_cache(config(*whole, "seed=1", folder=tmp_path))
    boxes = {
        crop_box(*size, rng=np.random.default_rng(seed), area=(1.0, 1.0))
        for size in ((90, 60), (60, 60), (300, 60))
        for seed in range(20)
    }
    assert len(boxes) == 3


@pytest.mark.parametrize(
    "word",
    [
        "data.source=scenes",
        "data.crop_scale=[0.9,1.0]",
        "data.flip=0.5",
        "data.colour=0.1",
        "image.subsampling=true",
    ],
)
def test_a_seed_that_draws_images_crops_or_tokens_may_not_differ(word):
    assert key_of(config(*WHOLE, "image.subsampling=false", word, "seed=1"))["seed"] == 1


def test_an_incomplete_missing_or_invalid_cache_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=rf"no {FILE} in it; `gestalt features` makes such a folder"
    ):
        check_cache(config(folder=tmp_path))
    described(complete=False).write(tmp_path)
    with pytest.raises(ConfigError, match="not complete; run its `gestalt features` command again"):
        check_cache(config(folder=tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["image.frozen_blocks=0"],
            r"image\.frozen_blocks=0: a cache of data\.features holds the output of frozen blocks; "
            r"choose 1 or more",
        ),
        (
            ["data.crops=null"],
            r"data\.crops=None: a cache of data\.features holds a number of crops of each image; "
            r"choose it, such as 1",
        ),
    ],
)
def test_training_on_features_requires_frozen_blocks_and_crops(words, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        check_training(config(*words, folder=tmp_path))
