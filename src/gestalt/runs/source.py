"""Open the source of an Experiment's pairs or images; count the steps."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from gestalt.config.schema import Experiment
from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.manifest import WithoutKnownBad
from gestalt.data_modules.keys import check_options
from gestalt.data_modules.pixels.augment import Augmentation
from gestalt.data_modules.sources import Source, open_source, options_taken
from gestalt.encoders.keys import Image
from gestalt.support.typed import ConfigError
from gestalt.training.schedule import warmup_cosine


def open_configured(
    config: Experiment,
    *,
    size: int,
    seed: int,
    limit: int | None,
    crops: int | None = None,
    **options: Any,
) -> Source:
    """Open ``data.source`` with the keys that it takes, without the bad samples of
    ``data.manifest``.

    Args:
        config: configuration of the run.
        size: side of the images, pixels.
        seed: seed of every random draw.
        limit: largest number of pairs; None for all.
        crops: different crops of an image; None for a new one in each epoch.
        options: more options of the source.

    Raises:
        ValueError: an option that the source does not take, data that cannot be read, or a manifest
            of other data.
    """
    check_options(config.data)
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
    offered = {key: value for key, value in offered.items() if key in taken}
    options = {**offered, **data.options, **options}
    source = open_source(
        data.source, root=data.root, size=size, seed=seed, limit=limit, crops=crops, **options
    )
    return source if data.manifest is None else WithoutKnownBad(source, Path(data.manifest))


def train_size(image: Image) -> int:
    """Return the side of the training images in pixels."""
    return image.train_size if image.subsampling else image.eval_size


def build_source(config: Experiment, *, size: int | None = None, **options: Any) -> Source:
    """Open the training pairs, at the size that the image tower trains on, or another; ``options``
    are further options of the source.
    """
    data = config.data
    return open_configured(
        config,
        size=size or train_size(config.image),
        seed=config.seed,
        limit=data.limit,
        crops=data.crops,
        augmentation=Augmentation(data.crop_scale, data.flip, data.colour),
        **options,
    )


def pairs_a_step(config: Experiment) -> int:
    """Return the number of pairs in an optimisation step over all ranks, from which loss and
    gradient are computed.
    """
    return config.data.batch_size * config.trainer.accumulate_grad_batches


def steps(config: Experiment, source: Source) -> tuple[int, int]:
    """Return the steps of an epoch, and of the whole run.

    Raises:
        ConfigError: fewer pairs than one batch.
    """
    trainer, epoch = config.trainer, len(source) // pairs_a_step(config)
    if epoch == 0:
        key = f"data.batch_size={config.data.batch_size}"
        if trainer.accumulate_grad_batches > 1:
            key += f" trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}"
        raise ConfigError(
            f"{key}: the source has {len(source)} pairs; choose a batch that it fills"
        )
    if trainer.limit_train_batches is not None:
        epoch = min(epoch, trainer.limit_train_batches)
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs not in (None, -1):
        ends.append(trainer.max_epochs * epoch)
    total = min(ends)
    # checks the warm-up
    warmup_cosine(
        0, warmup=config.optimizer.warmup_steps, total=total, final=config.optimizer.final_rate
    )
    return epoch, total
