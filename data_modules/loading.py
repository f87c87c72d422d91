"""Load training batches of this rank, from the trainer's step on.  B batch over all ranks."""

import math
import multiprocessing
import os
import signal
import threading
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from gestalt.data_modules.order import EndlessOrder, ShuffledBatches, check_order
from gestalt.data_modules.pairs import Source
from gestalt.support.process import end_with, keep_freed_memory

GRACE = 20.0
"""Seconds after SIGTERM in which the trainer may finish its step and save, before a loading process
ends.
"""


class TrainLoader(DataLoader[Any]):
    """A loader that Lightning can resume in the middle of an epoch.

    Its state identifies the stream of samples, without the position: the sampler takes the step
    from the trainer.

    Attributes:
        stream: length and digest of the source, batch size over all ranks, seed, window and steps
            an epoch.
    """

    stream: dict[str, int | str]

    def state_dict(self) -> dict[str, Any]:
        """Return the stream."""
        return dict(self.stream)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the checkpoint was reading the same stream.

        Raises:
            ValueError: other samples, batch size, seed, window or number of steps an epoch.
        """
        changed = [
            f"{key} was {state.get(key)}, is {value}"
            for key, value in self.stream.items()
            if state.get(key) != value
        ]
        if changed:
            raise ValueError(
                f"the data differ from the checkpoint's: {'; '.join(changed)}; restore them, or "
                "start anew without resume"
            )


@dataclass(eq=False, repr=False)
class TrainingData(LightningDataModule):
    """Base of the training data modules: shuffled batches of a source.

    Attributes:
        source: the samples.
        dataset: maps a list of (epoch, index) to a batch of the source's samples.
        batch_size: B.
        workers: number of loading processes of each rank; 0 loads in the training process.
        seed: seed of the order of samples.
        window: number of shards that are shuffled together.
    """

    source: Source
    dataset: Dataset[Any]
    _: KW_ONLY
    batch_size: int
    workers: int = 0
    seed: int = 0
    window: int = 1

    def __post_init__(self) -> None:
        super().__init__()

    def train_dataloader(self) -> TrainLoader:
        """Return this rank's batches from the trainer's step on, within its ``limit_train_batches``
        an epoch; a step takes ``accumulate_grad_batches`` of the trainer, fewer at an epoch's end.
        Without a trainer, all batches of one rank from the first on.

        Raises:
            ValueError: the trainer has ``overfit_batches``, the source has no sample or fewer than
                a batch, or ranks cannot share a batch equally.
        """
        # a pool's threads do not survive the fork of a loading process
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # without it a batch's pages are new each time, and cost as much as a third of the decoding
        # at 224 px
        keep_freed_memory()
        trainer: Any = self.trainer
        # a number, or a share in [0, 1]
        limit = None if trainer is None else trainer.limit_train_batches
        check_order(trainer)
        steps = whole = len(self.source) // self.batch_size
        if limit and whole:
            steps = max(1, min(limit, whole) if isinstance(limit, int) else int(limit * whole))

        def batches_taken() -> int:
            """Return the number of batches that the trainer's steps took."""
            if trainer is None:
                return 0
            each = trainer.accumulate_grad_batches
            epochs, rest = divmod(trainer.global_step, math.ceil(steps / each))
            return epochs * steps + rest * each

        sampler = ShuffledBatches(
            EndlessOrder(
                self.source.blocks(),
                seed=self.seed,
                window=self.window,
                in_sequence=self.source.in_sequence or self.source.orders_itself,
            ),
            batch_size=self.batch_size,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            step=batches_taken,
            steps_per_epoch=steps,
        )
        # PyTorch limits a worker to one thread, so a fork of a threaded parent cannot wait for
        # threads that it lacks; workers persist for the whole run, because they cache cut-outs and
        # open shards
        loader = TrainLoader(
            self.dataset,
            batch_size=None,  # a key of the sampler is that of a batch
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=leave_group,
            pin_memory=torch.cuda.is_available(),
        )
        loader.stream = {
            "length": len(self.source),
            "digest": self.source.digest(),
            "batch_size": self.batch_size,
            "seed": self.seed,
            "window_shards": self.window,
            "steps_per_epoch": sampler.steps_per_epoch,
        }
        return loader


def leave_group(worker: int) -> None:
    """Move a loading process out of its trainer's process group, and let it end with the trainer.

    Only the trainer may handle a signal to the whole group (from torchrun or a terminal) or to
    every process of a job (from a scheduler): it saves and ends its workers, while a worker that
    died first would end the run with a traceback.  A worker that waits to hand over a large batch
    does not notice that its trainer was killed.
    """
    os.setpgid(0, 0)
    keep_freed_memory()
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    trainer = multiprocessing.parent_process()
    if trainer is not None and trainer.pid is not None:
        end_with(trainer.pid)


def _end_later(number: int, frame: Any) -> None:
    timer = threading.Timer(GRACE, os._exit, [1])
    timer.daemon = True
    timer.start()
