"""Load training batches of this rank, from the trainer's step on.  B batch over all ranks."""

import math
import multiprocessing
import os
import signal
import threading
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset

from gestalt.data_modules.order import EndlessOrder
from gestalt.data_modules.sampling import ShuffledBatches, check_order
from gestalt.data_modules.sources import Source
from gestalt.support.memory import keep_freed_memory
from gestalt.support.parent import end_with

GRACE = 20.0
"""Seconds after SIGTERM in which the trainer may finish its step and save, before a loading process
ends.
"""


def as_loaded(batch: Any) -> Any:
    """Return the batch unchanged: the data set has collated it."""
    return batch


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


class TrainingData(LightningDataModule):
    """Base of the training data modules: shuffled batches of a source.

    Attributes:
        source: the samples.
        workers: number of loading processes of each rank.
    """

    def __init__(
        self,
        source: Source,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
        window: int = 1,
    ) -> None:
        """Take the parts.

        Args:
            source: the samples.
            dataset: maps a list of (epoch, index) to a batch of the source's samples.
            batch_size: B.
            workers: number of loading processes of each rank; 0 loads in the training process.
            seed: seed of the order of samples.
            window: number of shards that are shuffled together.
        """
        super().__init__()
        self.source = source
        self._dataset = dataset
        self._batch_size = batch_size
        self.workers = workers
        self._seed = seed
        self._window = window

    def train_dataloader(self) -> TrainLoader:
        """Return this rank's batches from the trainer's step on, within its ``limit_train_batches``
        an epoch; a step takes ``accumulate_grad_batches`` of the trainer, fewer at an epoch's end.
        Without a trainer, all batches of one rank from the first on.

        Raises:
            ValueError: the trainer has ``overfit_batches``; or as ``EndlessOrder`` and
                ``ShuffledBatches``.
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
        steps, whole = 0, len(self.source) // self._batch_size
        if limit and whole:
            steps = max(1, min(limit, whole) if isinstance(limit, int) else int(limit * whole))
        sampler = ShuffledBatches(
            EndlessOrder(
                self.source.blocks(),
                seed=self._seed,
                window=self._window,
                in_sequence=self.source.in_sequence or self.source.orders_itself,
            ),
            batch_size=self._batch_size,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            step=lambda: 0 if trainer is None else _batches_taken(trainer, steps or whole),
            steps_per_epoch=steps,
        )
        # PyTorch limits a worker to one thread, so a fork of a threaded parent cannot wait for
        # threads that it lacks; workers persist for the whole run, because they cache cut-outs and
        # open shards
        loader = TrainLoader(
            self._dataset,
            batch_size=None,  # a key of the sampler is that of a batch
            sampler=sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=as_loaded,
            worker_init_fn=leave_group,
            pin_memory=torch.cuda.is_available(),
        )
        loader.stream = {
            "length": len(self.source),
            "digest": self.source.digest(),
            "batch_size": self._batch_size,
            "seed": self._seed,
            "window_shards": self._window,
            "steps_per_epoch": sampler.steps_per_epoch,
        }
        return loader


def _batches_taken(trainer: Trainer, per_epoch: int) -> int:
    """Return the number of batches that the trainer's steps took."""
    each = trainer.accumulate_grad_batches
    epochs, rest = divmod(trainer.global_step, math.ceil(per_epoch / each))
    return epochs * per_epoch + rest * each


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
