"""Rows of equal shape in memory-mapped files of at most ``SHARD`` bytes, each written whole or not at all.  R rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.support.files import replacing

SHARD = 2**28
"""Most bytes of a file, unless one row has more; a stopped command repeats at most one file."""

HEADER = 128
"""Bytes before the rows of a file in NumPy's format, at these shapes."""


@dataclass(frozen=True)
class Rows:
    """The layout of R rows.

    Attributes:
        name: beginning of the files' names.
        count: R.
        shape: shape of a row.
        stored: number format in the files, float32 or float16.
        computed: number format in which a tower gave them, to which they are converted again.
        each: rows of a file; the last has the rest.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    stored: str
    computed: str
    each: int

    @classmethod
    def planned(cls, name: str, count: int, *, shape: Sequence[int], stored: str, computed: str) -> "Rows":
        """Return a layout whose files have at most ``SHARD`` bytes."""
        each = max(1, SHARD // (prod(shape) * np.dtype(stored).itemsize))
        return cls(name, count, tuple(shape), stored, computed, each)

    @classmethod
    def read(cls, record: dict[str, Any]) -> "Rows":
        """Return the layout of a record."""
        return cls(**{**record, "shape": tuple(record["shape"])})

    def record(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return {**asdict(self), "shape": list(self.shape)}

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in a file."""
        return prod(self.shape) * np.dtype(self.stored).itemsize

    @property
    def bytes(self) -> int:
        """Bytes of all rows."""
        return self.count * self.row_bytes

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.count // self.each)

    def span(self, shard: int) -> range:
        """Return the rows of a file."""
        return range(shard * self.each, min(self.count, (shard + 1) * self.each))

    def path(self, folder: Path, shard: int) -> Path:
        """Return the path of a file."""
        return folder / f"{self.name}_{shard:05d}.npy"

    def is_written(self, folder: Path, shard: int) -> bool:
        """Return True if a file is there and has its size."""
        path = self.path(folder, shard)
        return path.is_file() and path.stat().st_size == HEADER + len(self.span(shard)) * self.row_bytes

    def missing(self, folder: Path) -> list[int]:
        """Return the numbers of the files that are not written yet."""
        return [shard for shard in range(self.shards) if not self.is_written(folder, shard)]


def write_shard(rows: Rows, folder: Path, shard: int, *, fill: Callable[[NDArray[Any]], None]) -> None:
    """Write a file whose rows ``fill`` writes into an array.

    Raises:
        ValueError: a number that ``rows.stored`` cannot hold.
    """
    with replacing(rows.path(folder, shard)) as partial:
        shape = (len(rows.span(shard)), *rows.shape)
        values = np.lib.format.open_memmap(partial, mode="w+", dtype=np.dtype(rows.stored), shape=shape)
        fill(values)
        values.flush()
        del values


def as_stored(values: Tensor, *, stored: str) -> NDArray[Any]:
    """Convert a tower's output for a file.

    Raises:
        ValueError: the format cannot hold a number.
    """
    array: NDArray[Any] = values.detach().float().cpu().numpy().astype(stored)
    if not np.isfinite(array).all():
        raise ValueError(f"the towers' output has a number that {stored} cannot hold; choose --dtype float32, and check the weights")
    return array


class RowReader:
    """Reads rows of a cache; each process opens a file when it first reads from it."""

    def __init__(self, rows: Rows, folder: Path) -> None:
        self.rows = rows
        self.folder = folder
        self._open: dict[int, NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}  # a loading process maps the files itself

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """Return rows by number, in the number format in which they were computed."""
        values = np.empty((len(numbers), *self.rows.shape), dtype=self.rows.stored)
        for shard, places in self._places(numbers):
            if shard not in self._open:
                self._open[shard] = np.load(self.rows.path(self.folder, shard), mmap_mode="r")
            for place in places:  # row by row, since fancy indexing of a memory map would copy all rows once more
                values[place] = self._open[shard][numbers[place] - shard * self.rows.each]
        return torch.from_numpy(values).to(getattr(torch, self.rows.computed))

    def _places(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield each file's number with the places of its rows in ``numbers``."""
        shards = numbers // self.rows.each
        for shard in np.unique(shards):
            yield int(shard), np.flatnonzero(shards == shard)
