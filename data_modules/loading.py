"""The training loader: this rank's batches from the trainer's step on, whatever a sample is."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset

from data_modules.order import EndlessOrder
from data_modules.sampling import ShuffledBatches
from data_modules.sources import Source, keeps_its_order

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when the one that started it ends."""


class TrainLoader(DataLoader[Any]):
    """A loader that Lightning may resume in the middle of an epoch.

    Its state says which stream it reads. The position is not in it: the sampler asks the trainer for the step, which the checkpoint holds.
    """

    stream: dict[str, int | str]

    def state_dict(self) -> dict[str, Any]:
        """Length and digest of the source, its order, batch size over all ranks, seed and steps an epoch."""
        return dict(self.stream)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the stream is the one that the checkpoint was reading.

        Raises:
            ValueError: other samples, another order, batch size, seed or number of steps an epoch.
        """
        changed = [f"{key} was {state.get(key)}, is {value}" for key, value in self.stream.items() if state.get(key) != value]
        if changed:
            raise ValueError(f"the checkpoint cannot go on with this data: {'; '.join(changed)}")


def leave_group(worker: int) -> None:
    """What a loading process does first: it leaves the process group of its trainer, and asks to end with it.

    A signal to the whole group, such as torchrun's, a terminal's or a scheduler's, is for the trainer to answer: it saves, and ends its
    workers.  One that died beside it would end the run with a traceback before anything is saved.  Of a trainer that was killed a worker
    need not notice while it waits to hand over a large batch, so Linux is asked to end it.
    """
    os.setpgid(0, 0)
    trainer = multiprocessing.parent_process()
    if sys.platform == "linux" and trainer is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != trainer.pid:  # it died before it could be asked
            os._exit(1)


def train_loader(
    dataset: Dataset[Any],
    source: Source,
    *,
    collate: Callable[[Any], Any],
    batch_size: int,
    workers: int,
    seed: int,
    trainer: Trainer | None,
    window: int = 1,
    steps_per_epoch: int | None = None,
) -> TrainLoader:
    """Shuffled batches of a data set by (epoch, index), from the first step on and on one rank where there is no trainer.

    Args:
        dataset: what the source's samples are made into.
        source: its length and digest tell the stream.
        collate: samples to a batch.
        batch_size: samples a step, over all ranks.
        workers: processes that load on each rank; 0 loads in the training process.
        seed: of the order.
        trainer: knows rank and step.
        window: shards of the source that are shuffled together.
        steps_per_epoch: None for all that the source fills.

    Raises:
        ValueError: as ``EndlessOrder`` and ``ShuffledBatches``.
    """
    order = EndlessOrder(source.blocks(), seed=seed, window=window, in_sequence=keeps_its_order(source))
    sampler = ShuffledBatches(
        order,
        batch_size=batch_size,
        rank=0 if trainer is None else trainer.global_rank,
        world_size=1 if trainer is None else trainer.world_size,
        step=lambda: 0 if trainer is None else trainer.global_step,
        steps_per_epoch=steps_per_epoch,
    )
    # PyTorch gives a worker one thread, so a fork of a threaded parent cannot wait for threads that it has not got;
    # workers stay for the whole run, because they keep drawn cut-outs and open shards
    loader = TrainLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        worker_init_fn=leave_group,
        pin_memory=torch.cuda.is_available(),
    )
    loader.stream = {
        "length": len(source),
        "digest": source.digest(),
        "batch_size": batch_size,
        "seed": seed,
        "window_shards": window,
        "steps_per_epoch": sampler.steps_per_epoch,
    }
    return loader
