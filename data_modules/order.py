"""The order of samples: an endless stream in which every position names one sample, for any number of ranks and workers.

The stream is one epoch after the other, and an epoch is every sample once: shards are shuffled, and samples within windows of shards that
follow each other, so that few shards are open at a time and memory holds the order of one window.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Key = tuple[int, int]
"""(epoch, index): all that a training sample depends on, beside the seed."""

Integers = npt.NDArray[np.int64]


class EndlessOrder:
    """Positions to samples, pure in (seed, blocks, window).

    Attributes:
        length: samples in an epoch.
    """

    def __init__(self, blocks: Sequence[int], *, seed: int, window: int, in_sequence: bool = False) -> None:
        """Take the source's shards.

        Args:
            blocks: their lengths.
            seed: of the order.
            window: shards that are shuffled together.
            in_sequence: leave every sample where it is.

        Raises:
            ValueError: no sample, or a window below 1.
        """
        if window < 1:
            raise ValueError(f"data.window_shards is {window}; it must be at least 1")
        self._lengths = np.asarray(blocks, dtype=np.int64)
        self.length = int(self._lengths.sum())
        if self.length == 0:
            raise ValueError("the source has no sample")
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._seed = seed
        self._window_shards = window
        self._in_sequence = in_sequence
        self._epoch = (-1, self._lengths, self._lengths)  # epoch, its shards in order, where each of its windows ends
        self._window = (-1, -1, self._lengths, 0)  # epoch, window, its samples in order, position of the first

    def keys(self, start: int, stop: int) -> list[Key]:
        """The samples at the positions [start, stop) of the stream."""
        found: list[Key] = []
        while start < stop:
            epoch, position = divmod(start, self.length)
            samples, first = self._samples(epoch, position)
            piece = samples[position - first : position - first + stop - start]
            found += [(epoch, index) for index in piece.tolist()]
            start += len(piece)
        return found

    def _samples(self, epoch: int, position: int) -> tuple[Integers, int]:
        """The samples of the window that holds a position of an epoch, in order, and the position of the first."""
        if self._in_sequence:
            return np.arange(position, min(position + 65_536, self.length)), position
        shards, ends = self._shards(epoch)
        window = int(np.searchsorted(ends, position, side="right"))
        if self._window[:2] != (epoch, window):
            mine = shards[window * self._window_shards : (window + 1) * self._window_shards]
            every = np.concatenate([np.arange(self._lengths[shard]) + self._starts[shard] for shard in mine])
            first = int(ends[window]) - len(every)
            # a source of one shard is one permutation, whatever the window
            entropy = [self._seed, epoch] if len(self._lengths) == 1 else [self._seed, epoch, 1 + window]
            self._window = (epoch, window, every[np.random.default_rng(entropy).permutation(len(every))], first)
        return self._window[2:]

    def _shards(self, epoch: int) -> tuple[Integers, Integers]:
        """The shards of an epoch in order, and the position in it where each window ends."""
        if self._epoch[0] != epoch:
            shards = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
            lasts = np.minimum(np.arange(self._window_shards, len(shards) + self._window_shards, self._window_shards), len(shards)) - 1
            self._epoch = (epoch, shards, np.cumsum(self._lengths[shards])[lasts])
        return self._epoch[1:]
