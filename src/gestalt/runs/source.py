"""Open the source of an Experiment's pairs or images; count the steps."""

from typing import Any

from gestalt.config.schema import Experiment
from gestalt.data_modules.configured import open_data
from gestalt.data_modules.pixels.augment import Augmentation
from gestalt.data_modules.sources import Source
from gestalt.encoders.keys import train_size
from gestalt.support.typed import ConfigError
from gestalt.training.schedule import rate_factor


def build_source(config: Experiment, *, size: int | None = None, **offered: Any) -> Source:
    """Open the training pairs, at the size that the image tower trains on, or another; ``offered``
    are further options that the source may take.
    """
    data = config.data
    return open_data(
        data,
        size=size or train_size(config.image),
        seed=config.seed,
        limit=data.limit,
        crops=data.crops,
        augmentation=Augmentation(data.crop_scale, data.flip, data.colour),
        **offered,
    )


def pairs_a_step(config: Experiment) -> int:
    """Return the number of pairs in an optimisation step over all ranks, from which loss and
    gradient are computed.
    """
    return config.data.batch_size * config.trainer.accumulate_grad_batches


def steps(config: Experiment, pairs: int) -> tuple[int, int]:
    """Return the steps of an epoch of so many pairs, and of the whole run.

    Raises:
        ConfigError: fewer pairs than one batch.
    """
    trainer, epoch = config.trainer, pairs // pairs_a_step(config)
    if epoch == 0:
        key = f"data.batch_size={config.data.batch_size}"
        if trainer.accumulate_grad_batches > 1:
            key += f" trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}"
        raise ConfigError(f"{key}: the source has {pairs} pairs; choose a batch that it fills")
    if trainer.limit_train_batches is not None:
        epoch = min(epoch, trainer.limit_train_batches)
    ends = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs not in (None, -1):
        ends.append(trainer.max_epochs * epoch)
    total = min(ends)
    rate_factor(0, keys=config.optimizer, total=total)  # checks warm-up and cooldown
    return epoch, total
