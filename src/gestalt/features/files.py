"""The file of a cache: features of images by row."""

from pathlib import Path
from typing import Any

import numpy as np
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
