"""Types of NumPy arrays, and functions to read and write array files."""

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
    """Map a ``.npy`` file into memory for reading.

    A header that claims more values than the file has takes no memory.

    Raises:
        ValueError: the file is not a regular file or not an array; names the file.
    """
    try:
        check_regular(path)
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the reader of headers raises many types
        raise ValueError(f"{path}: not a NumPy array ({' '.join(str(error).split())})") from error


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a compressed ``.npz`` file atomically.  Its folder is created if it does not exist."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read name -> array from a file, without running code from it; empty if there is no file.

    Raises:
        ValueError: the file is truncated, or does not contain arrays of numbers and words.
    """
    if not path.is_file():
        return {}
    try:
        # NumPy would leave a file that it opened open after an error.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except OSError:
        raise
    except Exception as error:
        # zip, zlib and NumPy raise different errors, and NumPy's advises to run code from the file.
        raise ValueError(
            f"{path}: the arrays cannot be read: truncated, or more than numbers and words "
            f"({type(error).__name__}); evaluate again, or restore the file"
        ) from error
