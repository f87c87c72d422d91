"""Open the source of an Experiment's pairs or images; name the file of a pretrained init; count the steps."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data_modules.corpora.captions import CaptionRule
from data_modules.corpora.manifest import WithoutKnownBad
from data_modules.sources import Source, open_source, options_taken
from gestalt.config.check_data import check_options
from gestalt.config.identity import made_keys
from gestalt.config.loading import EXPERIMENTS, LOGS
from gestalt.config.schema import ConfigError, Experiment, Image
from gestalt.pretraining.init_file import InitFile, name_init_file
from gestalt.schedule import warmup_cosine

SHIPPED = EXPERIMENTS / "inits"
"""Folder of the inits that this package ships; as for those made here, a name is a hash of architecture, recipe and data."""


def open_configured(config: Experiment, *, size: int, seed: int, limit: int | None, crops: int | None = None, **options: Any) -> Source:
    """Open ``data.source`` with the keys that it takes, without the bad samples of ``data.manifest``.

    Args:
        config: configuration of the run.
        size: side of the images, pixels.
        seed: seed of every random draw.
        limit: largest number of pairs; None for all.
        crops: different crops of an image; None for a new one in each epoch.
        options: more options of the source.

    Raises:
        ValueError: an option that the source does not take, data that cannot be read, or a manifest of other data.
    """
    check_options(config)
    data = config.data
    offered = {
        "recipe": data.recipe,
        "captions": CaptionRule(data.caption, data.caption_choice, data.caption_template),
        "cache": data.cache,
        "max_bad_share": data.max_bad_share,
        "window": data.window_shards,
        "parts": [asdict(part) for part in data.mixture],
    }
    taken = options_taken(data.source)
    options = {**{key: value for key, value in offered.items() if key in taken}, **data.options, **options}
    source = open_source(data.source, root=data.root, size=size, seed=seed, limit=limit, crops=crops, **options)
    return source if data.manifest is None else WithoutKnownBad(source, Path(data.manifest))


def init_file_of(config: Experiment) -> InitFile:
    """Return the file of a pretrained ``image.init``: the one made here, or the one that this package ships for the same keys.

    If neither exists, it is the path of ``made_file_of``.

    Raises:
        ValueError: the data cannot be read, or has no labels and the init needs them.
    """
    made = made_file_of(config)
    shipped = replace(made, path=SHIPPED / made.path.name)
    return shipped if shipped.exists() and not made.exists() else made


def made_file_of(config: Experiment) -> InitFile:
    """Return the file that pretraining writes here; its name is a hash of the configuration and the data that it depends on.

    Raises:
        ValueError: as ``init_file_of``.
    """
    source = pretraining_source(config)
    _check_labels(config, source)
    content = {"data.digest": source.digest(), "data.images": len(source)}
    return name_init_file(LOGS / "pretrained" / config.scale, decides={**made_keys(config), **content})


def pretraining_source(config: Experiment, *, size: int | None = None, limit: int | None = None, **options: Any) -> Source:
    """Open the images to pretrain on, at ``pretraining.image_size`` unless ``size`` is given."""
    recipe = config.pretraining
    if config.data.source == "scenes":
        options = {"object_centred": recipe.object_centred, **options}
    return open_configured(config, size=size or recipe.image_size, seed=recipe.seed, limit=limit or recipe.limit, **options)


def _check_labels(config: Experiment, source: Source) -> None:
    if config.image.init == "supervised" and not source.classes:
        raise ValueError(
            f"image.init=supervised: pretraining needs labels, and data.source={config.data.source} has none; "
            "choose data.source=scenes, or image.init=dino"
        )


def train_size(image: Image) -> int:
    """Return the side of the training images in pixels."""
    return image.train_size if image.subsampling else image.eval_size


def build_source(config: Experiment) -> Source:
    """Open the training pairs, at the size that the image tower trains on."""
    data = config.data
    return open_configured(config, size=train_size(config.image), seed=config.seed, limit=data.limit, crops=data.crops)


def pairs_a_step(config: Experiment) -> int:
    """Return the number of pairs in an optimisation step over all ranks, from which loss and gradient are computed."""
    return config.data.batch_size * config.trainer.accumulate_grad_batches


def steps(config: Experiment, source: Source) -> tuple[int, int]:
    """Return the steps of an epoch, and of the whole run.

    Raises:
        ConfigError: fewer pairs than one batch.
    """
    epoch = len(source) // pairs_a_step(config)
    if epoch == 0:
        count = config.trainer.accumulate_grad_batches
        key = f"data.batch_size={config.data.batch_size}" + (f" trainer.accumulate_grad_batches={count}" if count > 1 else "")
        raise ConfigError(f"{key}: the source has {len(source)} pairs; choose a batch that it fills")
    if config.trainer.limit_train_batches is not None:
        epoch = min(epoch, config.trainer.limit_train_batches)
    ends = [config.trainer.max_steps] if config.trainer.max_steps > 0 else []
    ends += [config.trainer.max_epochs * epoch] if config.trainer.max_epochs not in (None, -1) else []
    total = min(ends)
    warmup_cosine(0, warmup=config.optimizer.warmup_steps, total=total, final=config.optimizer.final_rate)  # checks the warm-up
    return epoch, total
