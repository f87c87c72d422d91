"""Build what pretraining needs: the module, and the crops of its images."""

from dataclasses import replace
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import nn

from gestalt.config.schema import Experiment
from gestalt.data_modules.configured import open_data
from gestalt.data_modules.multi_crop import MultiCropDataModule
from gestalt.data_modules.pixels.crops import View, two_views
from gestalt.encoders.backbones import build_trunk
from gestalt.encoders.towers import build_image_tower
from gestalt.pretraining.module import Classification, PatchDistillation, Pretrainer
from gestalt.pretraining.recipes import recipe_of
from gestalt.runs.training import build_bad_samples
from gestalt.runs.workers import loading_processes
from gestalt.support.json_files import Fields
from gestalt.support.keys import refuse
from gestalt.training.bad_samples import BadSamples


class Parts(NamedTuple):
    """The parts of a pretraining.

    Attributes:
        module: trains the tower.
        data: its images.
        bad_samples: counts the images that cannot be read.
        untrimmed: the trunk that ``build_trunk`` makes: names every tensor of the file.
        size: side in pixels of the images that the position embeddings are made for.
        description: description of the data, for the record.
    """

    module: Pretrainer
    data: LightningDataModule
    bad_samples: BadSamples
    untrimmed: nn.Module
    size: int
    description: Fields


def build_pretraining(config: Experiment) -> Parts:
    """Build all parts of a pretraining; random weights are drawn from ``pretraining.seed``.

    Raises:
        ConfigError: labels are needed and the source has none.
    """
    image, recipe = config.image, recipe_of(config.image.init, config.pretraining)
    source = open_data(
        config.data,
        size=recipe.image_size,
        seed=recipe.seed,
        limit=config.pretraining.limit,
        object_centred=recipe.object_centred,
    )
    torch.manual_seed(recipe.seed)
    fresh = replace(image, init="random", inits={}, weights=None, frozen=False, frozen_blocks=0)
    untrimmed = build_trunk(fresh, size=recipe.crop_size)
    tower = build_image_tower(fresh, size=recipe.crop_size)
    module: Pretrainer
    views: tuple[View, ...] = two_views(recipe.crop_size)
    if image.init == "dino":
        module = PatchDistillation(tower, recipe)
    elif source.classes:
        module, views = Classification(tower, recipe, classes=len(source.classes)), views[:1]
    else:
        refuse(
            "image.init",
            image.init,
            f"needs labels, and data.source={config.data.source} has none; choose "
            "data.source=scenes, or --init dino",
        )
    data = MultiCropDataModule(
        source,
        views=views,
        batch_size=recipe.batch_size,
        workers=loading_processes(config),
        seed=recipe.seed,
        window=config.data.window_shards,
    )
    return Parts(
        module,
        data,
        build_bad_samples(config, samples=len(source)),
        untrimmed,
        recipe.crop_size,
        {"source": config.data.source, "images": len(source), "digest": source.digest()},
    )
