"""The files of a cache: image features by row, and the tokens of captions by hash.  B batch, N tokens, D width."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.encoders.text import BUCKET
from gestalt.support.files import replacing

IMAGES, TEXTS, INDEX = "images.npy", "texts.npy", "captions.npz"
"""Files of image features, of tokens of captions, and of the captions' hashes and lengths."""


def open_rows(path: Path, *, stored: str, shape: tuple[int, ...], resumed: bool = False) -> NDArray[Any]:
    """Map a file of rows into memory, to write it or to go on writing it."""
    return np.lib.format.open_memmap(path, mode="r+" if resumed else "w+", dtype=np.dtype(stored), shape=None if resumed else shape)


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
    """Reads rows of a file; each process maps it when it first reads from it.

    Args:
        path: the file.
        computed: number format in which the rows were computed, to which they are converted.
    """

    def __init__(self, path: Path, *, computed: str) -> None:
        self._path = path
        self._format: torch.dtype = getattr(torch, computed)
        self._open: NDArray[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": None}

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """Return rows by number."""
        if self._open is None:
            self._open = np.load(self._path, mmap_mode="r")
        return torch.from_numpy(np.asarray(self._open[numbers])).to(self._format)


def write_index(folder: Path, *, ids: NDArray[np.int64], lengths: NDArray[np.int64], summary: bool, computed: str) -> NDArray[np.int64]:
    """Write the index of captions.

    Args:
        folder: folder of the cache.
        ids: hash of each caption, in the order of their rows.
        lengths: tokens of each.
        summary: True if a row with the summary token precedes the tokens of each.
        computed: number format in which the tower gave them.

    Returns:
        The first row of each caption, and the number of rows at the end.
    """
    firsts = np.concatenate([[0], np.cumsum(lengths + summary)]).astype(np.int64)
    with replacing(folder / INDEX) as partial, partial.open("wb") as file:
        np.savez(file, ids=ids, firsts=firsts, summary=summary, computed=computed)
    return firsts


class TextReader:
    """Reads the text tower's cached output for captions."""

    def __init__(self, folder: Path, *, max_length: int) -> None:
        with np.load(folder / INDEX) as file:
            self._ids, self._firsts, self._summary = file["ids"], file["firsts"], int(file["summary"])
            self._rows = RowReader(folder / TEXTS, computed=str(file["computed"]))
        self._order = np.argsort(self._ids)
        self._max_length = max_length

    def any_id(self, count: int) -> Tensor:
        """Return the hash of any caption, repeated."""
        return torch.from_numpy(self._ids[:1]).repeat(count)

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """Return the fields of a batch for captions of these hashes (B,): tokens (B, N, D), mask (B, N) and, if there is one, the summary.

        Raises:
            ValueError: a caption that is not in the cache.
        """
        wanted = ids.numpy()
        places = np.minimum(np.searchsorted(self._ids, wanted, sorter=self._order), len(self._ids) - 1)
        numbers = self._order[places]
        if not (self._ids[numbers] == wanted).all():
            raise ValueError("data.features: a caption is not in the cache; make it again for this data")
        starts, ends = self._firsts[numbers] + self._summary, self._firsts[numbers + 1]
        lengths = torch.from_numpy(ends - starts)
        longest = min(math.ceil(int(lengths.max()) / BUCKET) * BUCKET, self._max_length)
        mask = torch.arange(longest) < lengths[:, None]
        rows = self._rows.read(np.concatenate([np.arange(*span) for span in zip(starts, ends, strict=True)]))
        tokens = rows.new_zeros(len(wanted), longest, rows.shape[-1])
        tokens[mask] = rows
        summary = {"text_summary": self._rows.read(self._firsts[numbers])} if self._summary else {}
        return {"text_features": tokens, "text_mask": mask, **summary}
