"""Types of NumPy arrays, and files of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gestalt.support.files import check_regular, replacing

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]


def map_array(path: Path) -> Array:
    """Map a ``.npy`` file into memory, to be read: a header that claims more values than the file
    has takes no memory.

    Raises:
        ValueError: not a regular file, or not an array; names the file.
    """
    try:
        check_regular(path)
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the reader of headers raises many types
        raise ValueError(f"{path}: not a NumPy array ({' '.join(str(error).split())})") from error


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a compressed ``.npz`` atomically; its folder is made if missing."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read the arrays of a file by name, without running code from it; empty without a file.

    Raises:
        ValueError: truncated, or not arrays of numbers and words.
    """
    if not path.is_file():
        return {}
    try:
        # numpy leaves its own open after an error
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except OSError:
        raise
    except Exception as error:
        # zip, zlib and numpy raise different errors; numpy's own advises to run code from it
        raise ValueError(
            f"{path}: the arrays cannot be read: truncated, or more than numbers and words "
            f"({type(error).__name__}); evaluate again, or restore the file"
        ) from error
