"""Build what pretraining needs: the module, the crops of its images, and the probe that scores
it.
"""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from gestalt.building.source import open_configured
from gestalt.building.training import build_bad_samples
from gestalt.building.workers import loading_processes
from gestalt.config.schema import Experiment, refuse
from gestalt.data_modules.multi_crop import MultiCropDataModule
from gestalt.data_modules.pixels.crops import View, two_views
from gestalt.data_modules.sources import Source
from gestalt.data_modules.sources.scenes import Scenes
from gestalt.encoders.backbones import build_trunk
from gestalt.encoders.image import build_image_tower
from gestalt.pretraining.make import Parts
from gestalt.pretraining.module import Classification, Pretrainer, SelfDistillation
from gestalt.pretraining.probe import Labelled, Probe, Voters
from gestalt.pretraining.recipes import recipe_of
from gestalt.training.clock import Clock

BANK = 1024
"""Most labelled training images in the k-NN bank; half as many are classified, and an eighth of
both provide the patches.
"""


def build_pretraining(config: Experiment) -> Parts:
    """Build all parts of a pretraining; random weights are drawn from ``pretraining.seed``.

    Raises:
        ConfigError: labels are needed and the source has none.
    """
    image, recipe = config.image, recipe_of(config.image.init, config.pretraining)
    source = open_images(config, size=recipe.image_size, object_centred=recipe.object_centred)
    torch.manual_seed(recipe.seed)
    fresh = replace(image, init="random", inits={}, weights=None, frozen=False, frozen_blocks=0)
    untrimmed = build_trunk(fresh, size=recipe.crop_size)
    tower = build_image_tower(fresh, size=recipe.crop_size)
    module: Pretrainer
    views: tuple[View, ...] = two_views(recipe.crop_size)
    if image.init == "dino":
        module = SelfDistillation(tower, recipe)
    elif source.classes:
        module, views = Classification(tower, recipe, classes=len(source.classes)), views[:1]
    else:
        why = (
            f"needs labels, and data.source={config.data.source} has none; choose "
            "data.source=scenes, or --init dino"
        )
        refuse("image.init", image.init, why)
    data = MultiCropDataModule(
        source,
        views=views,
        batch_size=recipe.batch_size,
        workers=loading_processes(config),
        seed=recipe.seed,
        window=config.data.window_shards,
    )
    # scenes of single objects have labels, also if the pretraining uses others
    make_voters = partial(_voters, config) if config.data.source == "scenes" else None
    probe = Probe(
        Clock(time.monotonic()),
        every_steps=config.pretraining.score_every_steps,
        make_voters=make_voters,
    )
    bad_samples = build_bad_samples(config, samples=len(source))
    description = {"source": config.data.source, "images": len(source), "digest": source.digest()}
    return Parts(module, data, probe, bad_samples, untrimmed, recipe.crop_size, description)


def open_images(
    config: Experiment,
    *,
    size: int,
    object_centred: bool,
    limit: int | None = None,
    split: str = "train",
) -> Source:
    """Open the images of ``data``; scenes show one large object each if they are
    ``object_centred``.
    """
    keys = config.pretraining
    options: dict[str, Any] = (
        {"object_centred": object_centred, "split": split} if config.data.source == "scenes" else {}
    )
    return open_configured(config, size=size, seed=keys.seed, limit=limit or keys.limit, **options)


def _voters(config: Experiment) -> Voters:
    """Read uncropped scenes of one object each, at the crops' size: training scenes as the bank,
    and two sets of queries.

    ``new_scenes`` are drawn as the training scenes are, after those of an
    epoch.  ``new_combinations`` are of the validation split: each object is before the one
    background that training never combines it with, so a model that recognises backgrounds is
    always wrong. Patches are those of the recipe's scenes at the evaluation size, each with the
    class of most of its pixels.
    """
    recipe = recipe_of(config.image.init, config.pretraining)
    split = config.evaluation.split or "val"
    trained = len(open_images(config, size=recipe.crop_size, object_centred=recipe.object_centred))
    bank = min(trained, BANK)
    queries = -(-bank // 2)
    single = partial(open_images, config, size=recipe.crop_size, object_centred=True)
    scenes = partial(open_images, config, size=config.image.eval_size, object_centred=False)
    return Voters(
        bank=_read(single(limit=bank)),
        queries={
            "new_scenes": _read(single(limit=trained + queries), first=trained),
            "new_combinations": _read(single(limit=queries, split=split)),
        },
        patch_bank=_with_maps(scenes(limit=-(-bank // 8))),
        patch_queries=_with_maps(scenes(limit=-(-queries // 8), split=split)),
    )


def _with_maps(source: Source) -> Labelled:
    assert isinstance(source, Scenes)
    numbers = range(len(source))
    return Labelled(
        torch.stack([source.pair(index, 0)[0] for index in numbers]),
        torch.stack([source.class_map(index) for index in numbers]),
    )


def _read(source: Source, *, first: int = 0) -> Labelled:
    numbers = range(first, len(source))
    return Labelled(
        torch.stack([source.pair(index, 0)[0] for index in numbers]),
        torch.tensor([source.label(index) for index in numbers]),
    )
