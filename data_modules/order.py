"""Order of training samples: an endless stream that maps a position to a sample, for any number of
ranks and workers.

The stream concatenates epochs, each of which has every sample once.  Shards are shuffled, then
samples within windows of consecutive shards, so that few shards are open at a time and memory holds
the order of one window.
"""

import numpy as np

from gestalt.support.arrays import Ints

Key = tuple[int, int]
"""(epoch, index): with the seed, it determines a training sample."""


class EndlessOrder:
    """Map of positions to samples, pure in (seed, blocks, window).

    Attributes:
        length: number of samples in an epoch.
    """

    def __init__(
        self, blocks: list[int], *, seed: int, window: int, in_sequence: bool = False
    ) -> None:
        """Take the source's shards.

        Args:
            blocks: number of samples in each.
            seed: seed of the order.
            window: number of shards that are shuffled together, at least 1.
            in_sequence: True to keep ascending order in each epoch.

        Raises:
            ValueError: no sample.
        """
        self._lengths = np.asarray(blocks, dtype=np.int64)
        self.length = int(self._lengths.sum())
        if self.length == 0:
            raise ValueError("the source has no sample")
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._seed = seed
        self._window_shards = window
        self._in_sequence = in_sequence
        # epoch, its shards in order, end of each of its windows
        self._epoch = (-1, self._lengths, self._lengths)
        # epoch, window, its samples in order, position of the first
        self._window = (-1, -1, self._lengths, 0)

    def keys(self, start: int, stop: int) -> list[Key]:
        """Return the samples at the positions [start, stop) of the stream."""
        keys: list[Key] = []
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
        if self._in_sequence:
            return np.arange(position, min(position + 65_536, self.length)), position
        shards, ends = self._shards(epoch)
        window = int(np.searchsorted(ends, position, side="right"))
        if self._window[:2] != (epoch, window):
            chosen = shards[window * self._window_shards : (window + 1) * self._window_shards]
            samples = np.concatenate(
                [np.arange(self._lengths[shard]) + self._starts[shard] for shard in chosen]
            )
            first = int(ends[window]) - len(samples)
            # a source of one shard has one permutation for any window
            entropy = (
                [self._seed, epoch] if len(self._lengths) == 1 else [self._seed, epoch, 1 + window]
            )
            self._window = (
                epoch,
                window,
                samples[np.random.default_rng(entropy).permutation(len(samples))],
                first,
            )
        return self._window[2:]

    def _shards(self, epoch: int) -> tuple[Ints, Ints]:
        """Return the shards of an epoch in order, and the position at which each window ends."""
        if self._epoch[0] != epoch:
            shards = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
            ends = np.cumsum(self._lengths[shards])
            windows = ends[self._window_shards - 1 : -1 : self._window_shards]
            self._epoch = (epoch, shards, np.append(windows, self.length))
        return self._epoch[1:]
