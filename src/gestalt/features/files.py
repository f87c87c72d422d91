"""The file of a cache: features of images by row."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FILE = "images.npy"


def open_rows(
    folder: Path, *, stored: str, shape: tuple[int, ...], resumed: bool
) -> "np.memmap[Any, Any]":
    """Map the file into memory, to write it or to go on writing it."""
    mode = "r+" if resumed else "w+"
    return np.lib.format.open_memmap(
        folder / FILE, mode=mode, dtype=np.dtype(stored), shape=None if resumed else shape
    )


def as_stored(values: Tensor, *, stored: str) -> NDArray[Any]:
    """Convert a tower's output for the file.

    Raises:
        ValueError: the format cannot hold a number.
    """
    array: NDArray[Any] = values.detach().float().cpu().numpy().astype(stored)
    if not np.isfinite(array).all():
        raise ValueError(
            f"the tower's output has a number that {stored} cannot hold; choose --dtype float32, "
            "and check the weights"
        )
    return array


class RowReader:
    """Reads rows of the file; each process maps it when it first reads from it.

    Args:
        folder: folder of the file.
        computed: number format in which the rows were computed, to which they are converted.
    """

    def __init__(self, folder: Path, *, computed: str) -> None:
        self._path = folder / FILE
        self._format: torch.dtype = getattr(torch, computed)
        self._open: NDArray[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": None}

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """Return rows by number."""
        if self._open is None:
            self._open = np.load(self._path, mmap_mode="r")
        return torch.from_numpy(np.asarray(self._open[numbers])).to(self._format)
