"""Build what pretraining needs: the module, the views of its images, and the probe that scores it."""

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from data_modules.corpora.bad_samples import BadSample
from data_modules.multi_crop import MultiCropDataModule
from data_modules.pixels.crops import dino_views
from data_modules.sources import Source
from data_modules.sources.scenes import Scenes
from gestalt.building.model import check_deterministic
from gestalt.building.source import pretraining_source
from gestalt.building.training import build_bad_samples
from gestalt.building.workers import loading_processes
from gestalt.callbacks.clock import Clock
from gestalt.config.schema import Experiment
from gestalt.encoders.backbones import build_trunk
from gestalt.encoders.image import ImageTower, build_image_tower
from gestalt.pretraining.classification import Classification
from gestalt.pretraining.distillation import SelfDistillation
from gestalt.pretraining.make_init import Plan
from gestalt.pretraining.pretrainer import Pretrainer
from gestalt.pretraining.probe import Labelled, Probe, Voters

Pair = tuple[float, float]


def build_plan(config: Experiment) -> Plan:
    """Build all parts of a pretraining; random weights are drawn from ``pretraining.seed``.

    Raises:
        ConfigError: as ``check_deterministic``.
    """
    check_deterministic(config, pretrains=True)
    recipe, source = config.pretraining, pretraining_source(config)
    torch.manual_seed(recipe.seed)
    untrimmed = build_trunk(config.image, size=recipe.global_size)
    tower = _tower(config)
    large, small = dino_views(
        global_size=recipe.global_size,
        global_area=_pair(recipe.global_area),
        local_size=recipe.local_size,
        local_area=_pair(recipe.local_area),
        local_crops=recipe.local_crops,
    )
    distils = config.image.init == "dino"
    data = MultiCropDataModule(
        source,
        large=large if distils else large[:1],
        small=small if distils else (),
        batch_size=recipe.batch_size,
        workers=loading_processes(config),
        seed=recipe.seed,
        window=config.data.window_shards,
    )
    description = {"data": {"source": config.data.source, "images": len(source), "split_for_knn": _held_out(config)}}
    return Plan(
        _module(config, tower, source), data, _probe(config), build_bad_samples(config, samples=len(source)), untrimmed, description
    )


def _tower(config: Experiment) -> ImageTower:
    fresh = replace(config.image, init="random", weights=None, frozen=False, frozen_blocks=0)
    return build_image_tower(fresh, size=config.pretraining.global_size)


def _module(config: Experiment, tower: ImageTower, source: Source) -> Pretrainer:
    recipe, fused = config.pretraining, not config.trainer.precision.startswith("16")
    if config.image.init == "dino":
        return SelfDistillation(tower, recipe, fused=fused)
    assert source.classes is not None
    return Classification(tower, recipe, classes=len(source.classes), fused=fused)


def _probe(config: Experiment) -> Probe:
    """Build the probe: k-NN if the source has labels; tokens of held-out images if it has any, else of training images."""
    labels = config.data.source == "scenes"  # its images of single objects have labels, also if the pretraining uses others
    held_out: dict[str, Any] = {"split": _held_out(config), "object_centred": False} if labels else {}
    return Probe(
        Clock(time.monotonic()),
        every_steps=config.pretraining.score_every_steps,
        voters=partial(_voters, config) if labels else None,
        shown=partial(_shown, config, **held_out),
    )


def _held_out(config: Experiment) -> str:
    return config.evaluation.split or "val"


def _voters(config: Experiment) -> Voters:
    """Read uncropped images of one object each, at the global crops' size: training images as the bank, and two sets of queries.

    ``new_scenes`` are drawn as the training scenes are, after those of an epoch.  ``new_combinations`` are of the validation split: each
    object is before the one background that training never combines it with, so a model that recognises backgrounds is always wrong.
    Patches are those of the recipe's scenes at the evaluation size, each with the class of most of its pixels.
    """
    recipe, trained = config.pretraining, len(pretraining_source(config))
    single = partial(pretraining_source, config, size=recipe.global_size, object_centred=True)
    new = _read(single(limit=trained + recipe.knn_queries), first=trained)
    combinations = _read(single(limit=recipe.knn_queries, split=_held_out(config)))
    scenes = partial(pretraining_source, config, size=config.image.eval_size, object_centred=False)
    return Voters(
        bank=_read(single(limit=min(trained, recipe.knn_bank))),
        queries={"new_scenes": new, "new_combinations": combinations},
        patch_bank=_with_maps(scenes(limit=-(-recipe.knn_bank // 8))),
        patch_queries=_with_maps(scenes(limit=-(-recipe.knn_queries // 8), split=_held_out(config))),
    )


def _with_maps(source: Source) -> Labelled:
    assert isinstance(source, Scenes)
    numbers = range(len(source))
    return Labelled(
        torch.stack([source.pair(index, 0)[0] for index in numbers]), torch.stack([source.class_map(index) for index in numbers])
    )


def _read(source: Source, *, first: int = 0) -> Labelled:
    numbers = range(first, len(source))
    return Labelled(torch.stack([source.pair(index, 0)[0] for index in numbers]), torch.tensor([source.label(index) for index in numbers]))


def _shown(config: Experiment, **options: Any) -> Tensor:
    """Read the images whose tokens are drawn, (M, 3, H, W) uint8, at the evaluation size: the first ones that can be read."""
    count, size = config.evaluation.pictures, config.image.eval_size
    images: list[Tensor] = []
    source = pretraining_source(config, size=size, **options)
    for index in range(len(source)):
        if len(images) == count:
            break
        with suppress(BadSample):  # training counts it
            images.append(source.image(index, 0))
    return torch.stack(images) if images else torch.empty(0, 3, size, size, dtype=torch.uint8)


def _pair(values: Pair) -> Pair:
    least, most = values  # a list, where the configuration was read from a file
    return least, most
