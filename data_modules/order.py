"""Order of training samples: an endless stream that maps a position to a sample, for any number of
ranks and workers; and samplers, which yield the keys of whole batches of a rank.

The stream concatenates epochs, each of which has every sample once.  Shards are shuffled, then
samples within windows of consecutive shards, so that few shards are open at a time and memory holds
the order of one window.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler

from gestalt.data_modules.pairs import Key
from gestalt.support.arrays import Ints
from gestalt.support.label_values import PADDING


@dataclass
class EndlessOrder:
    """Map of positions to samples, pure in (seed, blocks, window).

    Attributes:
        blocks: number of samples in each of the source's shards.
        seed: seed of the order.
        window: number of shards that are shuffled together, at least 1.
        in_sequence: True to keep ascending order in each epoch.
        length: number of samples in an epoch.

    Raises:
        ValueError: no sample.
    """

    blocks: list[int]
    seed: int
    window: int
    in_sequence: bool = False

    def __post_init__(self) -> None:
        self._lengths = np.array(self.blocks)
        self.length = int(self._lengths.sum())
        if self.length == 0:
            raise ValueError("data.source has no sample; check data.root")
        self._starts = np.cumsum(self._lengths) - self._lengths
        # epoch, its shards in order, end of each of its windows
        self._epoch = (-1, self._lengths, self._lengths)
        # epoch, window, its samples in order, position of the first
        self._window = (-1, -1, self._lengths, 0)

    def keys(self, start: int, stop: int) -> list[Key]:
        """Return the samples at the positions [start, stop) of the stream."""
        keys = []
        while start < stop:
            epoch, position = divmod(start, self.length)
            samples, first = self._samples(epoch, position)
            piece = samples[position - first : position - first + stop - start]
            keys += [(epoch, index) for index in piece.tolist()]
            start += len(piece)
        return keys

    def _samples(self, epoch: int, position: int) -> tuple[Ints, int]:
        """Return the samples of the window at a position of an epoch, in order, and the position of
        the first.
        """
        if self.in_sequence:
            return np.arange(position, min(position + 65_536, self.length)), position
        shards, ends = self._shards(epoch)
        window = int(np.searchsorted(ends, position, side="right"))
        if self._window[:2] != (epoch, window):
            chosen = shards[window * self.window : (window + 1) * self.window]
            samples = np.concatenate(
                [np.arange(self._lengths[shard]) + self._starts[shard] for shard in chosen]
            )
            first = int(ends[window]) - len(samples)
            entropy = [self.seed, epoch]
            if len(self._lengths) > 1:  # one shard has one permutation for any window
                entropy.append(1 + window)
            shuffled = np.random.default_rng(entropy).permutation(samples)
            self._window = (epoch, window, shuffled, first)
        return self._window[2:]

    def _shards(self, epoch: int) -> tuple[Ints, Ints]:
        """Return the shards of an epoch in order, and the position at which each window ends."""
        if self._epoch[0] != epoch:
            shards = np.random.default_rng([self.seed, epoch]).permutation(len(self._lengths))
            ends = np.cumsum(self._lengths[shards])
            windows = ends[self.window - 1 : -1 : self.window]
            self._epoch = (epoch, shards, np.append(windows, self.length))
        return self._epoch[1:]


@dataclass
class ShuffledBatches(DistributedSampler[list[Key]]):
    """Training batches of this rank from any step on.  The position is one integer, so a resumed
    run sees the same samples.

    Step s has the positions [s B, (s + 1) B) of an endless order.  The trainer's epoch has as many
    steps as the samples fill; the remainder, less than a batch, begins the next epoch, so that no
    sample is lost.  Rank r takes the r-th of W equal parts of every batch, so W ranks together see
    the batches of one rank.

    Attributes:
        order: order of all samples.
        batch_size: B, at least 1.
        rank: number of this process, from 0.
        world_size: W.
        step: returns the number of finished steps; called whenever iteration starts.
        steps_per_epoch: number of steps in the trainer's epochs, 1 to all that fill an epoch, which
            then end early while the order continues.

    Raises:
        ValueError: fewer pairs than a batch, or a batch that ranks cannot share equally.
    """

    order: EndlessOrder
    batch_size: int
    rank: int
    world_size: int
    step: Callable[[], int]
    steps_per_epoch: int

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise ValueError(
                f"batch size {self.batch_size} cannot be shared by {self.world_size} ranks: choose "
                f"a multiple of {self.world_size}"
            )
        if self.order.length < self.batch_size:
            raise ValueError(
                f"batch size {self.batch_size} is more than the {self.order.length} pairs of the "
                "source: lower it, or raise data.limit"
            )

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch, independent of the position, as Lightning
        expects.
        """
        return self.order.length // self.batch_size

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this rank's batches from the current step to the end of the trainer's epoch."""
        start, share = self.step(), self.batch_size // self.world_size
        for step in range(start, (start // self.steps_per_epoch + 1) * self.steps_per_epoch):
            first = step * self.batch_size + self.rank * share
            yield self.order.keys(first, first + share)


@dataclass
class DealtBatches(DistributedSampler[list[int]]):
    """Validation batches, dealt whole to the ranks in turn, so that a batch has the same samples
    for any number of ranks.

    Attributes:
        length: number of samples.
        batch_size: of one rank, at least 1.
    """

    length: int
    batch_size: int
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        """Return the number of batches of a rank, equal on all ranks."""
        return math.ceil(self.length / (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's batches; beyond the end of the set, ``PADDING``, which becomes a sample
        that is ignored everywhere.
        """
        for step in range(len(self)):
            start = (step * self.world_size + self.rank) * self.batch_size
            yield [
                index if index < self.length else PADDING
                for index in range(start, start + self.batch_size)
            ]


def check_order(trainer: Any) -> None:
    """Check that a trainer, if there is one, leaves the order of batches to their sampler.

    Raises:
        ValueError: it has ``overfit_batches``.
    """
    if trainer is not None and trainer.overfit_batches:
        raise ValueError(
            f"overfit_batches={trainer.overfit_batches}: these batches are not reordered; give the "
            "source a limit of one batch instead"
        )
