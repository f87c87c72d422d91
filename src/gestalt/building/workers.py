"""The number of loading processes of a rank, chosen where ``data.workers`` is null."""

import os
from math import prod
from pathlib import Path

import torch

from gestalt.building.source import pairs_a_step, train_size
from gestalt.config.schema import Experiment
from gestalt.features.key import Description

MOST = 16
"""Largest number that is chosen: more processes than this wait for the disk."""

READY, HELD = 2, 4 * 2**30
"""Number of batches that each process keeps ready, and the largest size of all of them together,
bytes.
"""

QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""File with the processor time that a container may use in each period, and the period, both in
microseconds.
"""


def loading_processes(config: Experiment) -> int:
    """Return ``data.workers``, or the number that is chosen for this machine."""
    return _chosen(config)[0] if config.data.workers is None else config.data.workers


def reading_processes(config: Experiment) -> int:
    """Return the number of processes for work that only reads: ``data.workers``, or one for each
    core, at most ``MOST``.
    """
    return min(MOST if config.data.workers is None else config.data.workers, usable_cores())


def describe_workers(config: Experiment) -> str:
    """Return one line about the number of loading processes and its reason."""
    if config.data.workers is not None:
        return f"data.workers: {config.data.workers} a rank, as set"
    number, reason = _chosen(config)
    return f"data.workers: {number} a rank, chosen: {reason}"


def choose_workers(cores: int, *, accelerated: bool, batch_bytes: int) -> int:
    """Choose the number for a rank.

    A step on an accelerator leaves the cores to the loader, all but the one that starts its
    kernels.  A step on the CPU takes all cores itself and far longer than the loading of its batch,
    for which one process is enough.

    Args:
        cores: number of cores of this rank.
        accelerated: True if the step runs on an accelerator.
        batch_bytes: size of the images of a rank's batch, bytes.
    """
    return max(1, min(cores - 1, MOST, HELD // (READY * batch_bytes))) if accelerated else 1


def usable_cores() -> int:
    """Return the cores that this process may use, by its affinity and the quota of its
    container.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return cores


def _chosen(config: Experiment) -> tuple[int, str]:
    accelerated = _accelerated(config)
    ranks = ranks_here(config)
    side = train_size(config.image)
    share = -(-pairs_a_step(config) // (ranks * config.trainer.num_nodes))
    cores = max(1, usable_cores() // ranks)
    size = share * _image_bytes(config)
    number = choose_workers(cores, accelerated=accelerated, batch_bytes=size)
    step = "on an accelerator" if accelerated else "on the CPU take the cores themselves"
    named = "core" if cores == 1 else "cores"
    return number, f"{cores} {named}, batches of {share} images of {side} px, steps {step}"


def _image_bytes(config: Experiment) -> int:
    """Return the bytes of an image, or of its features, which are sent as float32."""
    if config.data.features is None:
        return 3 * train_size(config.image) ** 2
    return 4 * prod(Description.read(Path(config.data.features).expanduser()).shape)


def _accelerated(config: Experiment) -> bool:
    wanted = config.trainer.accelerator
    return wanted != "cpu" and (
        wanted != "auto" or torch.cuda.is_available() or torch.backends.mps.is_available()
    )


def ranks_here(config: Experiment) -> int:
    """Return the number of ranks on this host, as the launcher or ``trainer.devices`` states it."""
    launched = os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", ""))
    devices = str(config.trainer.devices)
    if launched.isdecimal():
        return max(1, int(launched))
    if devices.isdecimal():
        return int(devices)
    if "," in devices:
        return len(devices.split(","))
    return max(1, torch.cuda.device_count()) if _accelerated(config) else 1
