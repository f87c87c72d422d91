"""Order of training samples: an endless stream that maps a position to a sample, for any number of
ranks and workers.

The stream concatenates epochs, each of which has every sample once.  Shards are shuffled, then
samples within windows of consecutive shards, so that few shards are open at a time and memory holds
the order of one window.
"""

from dataclasses import dataclass

import numpy as np

from gestalt.data_modules.pairs import Key as Key
from gestalt.support.arrays import Ints


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
