"""Open the source of an experiment's pairs or images, count its steps, and choose the number of
loading processes.
"""

import os
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count

from gestalt.config.schema import Experiment
from gestalt.data_modules.keys import Data
from gestalt.data_modules.sources import Source, open_data
from gestalt.encoders.keys import train_size
from gestalt.results.text import amount
from gestalt.runs.cache_key import Description
from gestalt.support.files import free_bytes
from gestalt.support.keys import refuse
from gestalt.support.process import free_memory
from gestalt.support.typed import ConfigError
from gestalt.training.keys import Trainer
from gestalt.training.schedule import rate_factor


def build_source(config: Experiment, *, size: int | None = None, **offered: Any) -> Source:
    """Open the training pairs.

    ``size`` is the side of the images, by default that of training. ``offered`` are additional
    options that a source may take.
    """
    size = size or train_size(config.image)
    return open_data(config.data, size=size, seed=config.seed, **offered)


def pairs_a_step(config: Experiment) -> int:
    """Return the number of pairs of an optimisation step, over all ranks and accumulated
    batches.
    """
    return config.data.batch_size * config.trainer.accumulate_grad_batches


def steps(config: Experiment, pairs: int) -> tuple[int, int]:
    """Return the number of steps of an epoch with ``pairs`` pairs, and of the whole run.

    Raises:
        ConfigError: there are fewer pairs than one batch has.
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


MAX_WORKERS = 16
"""Maximum number of processes that is chosen.  More processes would wait for the disk."""

READY = 2
"""Number of batches that each process keeps ready in shared memory, while it fills one more."""

SHARE = 4
"""Batches may take 1 / ``SHARE`` of the free memory and of the free shared memory."""

SHARED = Path("/dev/shm")


def loading_processes(config: Experiment, pairs: int | None = None) -> int:
    """Return ``data.workers``; if it is not set, the number chosen for this machine and the number
    of pairs.
    """
    return choose_workers(config, pairs)[0]


def reading_processes(data: Data) -> int:
    """Return the number of processes for work that only reads: ``data.workers``; if it is not set,
    one for each core, at most ``MAX_WORKERS``.
    """
    return min(MAX_WORKERS if data.workers is None else data.workers, cpu_count())


def shared_bytes(config: Experiment, workers: int) -> int:
    """Return the maximum number of bytes of shared memory that batches take on a host.

    Each of a rank's ``workers`` keeps some batches ready, and a step reads one more.
    """
    pairs = pairs_a_step(config) // config.trainer.num_nodes
    return (READY * workers + 1) * pairs * _image_bytes(config) if workers else 0


def check_shared(config: Experiment, workers: int) -> None:
    """Check that batches fit into shared memory.  A process that runs out of it is killed without a
    message.

    Raises:
        ConfigError: the batches do not fit; the message says what to change.
    """
    need, (_, free) = shared_bytes(config, workers), free_room()
    if need > free:
        refuse(
            "data.workers",
            workers,
            f"the batches of {ranks_here(config)} ranks take {amount(need, 'B')} of {SHARED}, "
            f"where {amount(free, 'B')} are free; choose fewer processes or a smaller "
            "data.batch_size, or make it larger: a container has 64 MB unless Docker is told "
            "--shm-size=SIZE or --ipc=host, or Kubernetes mounts an emptyDir of medium Memory",
        )


@cache  # so that every call in a process chooses the same number.
def free_room() -> tuple[int, int]:
    """Return the bytes of memory and of shared memory that are free."""
    memory = free_memory()
    return memory, free_bytes(SHARED) if SHARED.is_dir() else memory


def choose_workers(config: Experiment, pairs: int | None = None) -> tuple[int, str]:
    """Return the number of loading processes, and the reason in words.

    The number is ``data.workers``; if it is not set, it is chosen for this machine and the number
    of pairs.
    """
    if config.data.workers is not None:
        return config.data.workers, "as set"
    ranks = ranks_here(config)
    cores = max(1, cpu_count() // ranks)  # within the affinity and the quota of a container
    share = -(-pairs_a_step(config) // (ranks * config.trainer.num_nodes))
    side = train_size(config.image)
    reason = (
        f"chosen: {cores} core{'' if cores == 1 else 's'}, batches of {share} images of {side} px, "
        "steps on"
    )
    if not _accelerated(config.trainer):
        # A step on the CPU takes far longer than loading its batch.
        return 1, f"{reason} the CPU take the cores themselves"
    # A step on an accelerator needs one core to start kernels, and leaves the others to the loader.
    memory, shared = (room // ranks // SHARE for room in free_room())
    size = share * _image_bytes(config)
    bounds = {
        "cores": cores - 1,
        "memory": memory // ((READY + 1) * size),
        str(SHARED): shared // (READY * size),
        "the dataset": MAX_WORKERS if pairs is None else pairs // pairs_a_step(config),
        "the disk": MAX_WORKERS,
    }
    bound = min(bounds, key=lambda name: bounds[name])
    return max(1, bounds[bound]), f"{reason} an accelerator; bound by {bound}"


def _image_bytes(config: Experiment) -> int:
    """Return the number of bytes of an image, or of its features as float32."""
    if config.data.features is None:
        return 3 * train_size(config.image) ** 2
    return 4 * prod(Description.read(Path(config.data.features).expanduser()).shape)


def _accelerated(trainer: Trainer) -> bool:
    wanted = trainer.accelerator
    return wanted != "cpu" and (wanted != "auto" or torch.accelerator.is_available())


def ranks_here(config: Experiment) -> int:
    """Return the number of ranks on this host, as the launcher or ``trainer.devices`` states it."""
    launched = os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", ""))
    if launched.isdecimal():
        return max(1, int(launched))
    found = max(1, torch.cuda.device_count()) if _accelerated(config.trainer) else 1
    return config.trainer.named_devices() or found
