"""Types of NumPy arrays, and files of them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gestalt.support.files import check_regular

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
