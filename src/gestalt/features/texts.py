"""Cached outputs of a frozen text tower: one row a token, found by the hash of the caption.  B batch, N tokens, D width."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.encoders.text import BUCKET
from gestalt.features.rows import RowReader, Rows, as_stored
from gestalt.support.files import replacing
from gestalt.tokens import Tokens

INDEX = "captions.npz"
"""File of the captions' hashes and lengths."""

TOGETHER = 64
"""Number of captions that are encoded together."""


class Index(NamedTuple):
    """Captions in the order of their rows.

    Attributes:
        ids: hash of each, int64.
        lengths: tokens of each.
        summary: 1 if a row with the summary token precedes the tokens of each, else 0.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    summary: int

    @property
    def firsts(self) -> NDArray[np.int64]:
        """First row of each caption, and the number of rows at the end."""
        return np.concatenate([[0], np.cumsum(self.lengths + self.summary)]).astype(np.int64)

    def write(self, folder: Path) -> None:
        """Write the index."""
        with replacing(folder / INDEX) as partial, partial.open("wb") as file:
            np.savez(file, ids=self.ids, lengths=self.lengths, summary=self.summary)

    @classmethod
    def read(cls, folder: Path) -> "Index":
        """Read the index."""
        with np.load(folder / INDEX) as file:
            return cls(file["ids"], file["lengths"], int(file["summary"]))


def fill_with_texts(
    values: NDArray[Any], span: range, *, texts: Sequence[str], index: Index, encode: Callable[[list[str]], Tokens], stored: str
) -> None:
    """Write the rows ``span`` of the captions, which are in the order of the index."""
    firsts = index.firsts
    first, last = (int(np.searchsorted(firsts, row, side="right")) - 1 for row in (span.start, span.stop - 1))
    for start in range(first, last + 1, TOGETHER):
        numbers = range(start, min(start + TOGETHER, last + 1))
        tokens = encode([texts[number] for number in numbers])
        for place, number in enumerate(numbers):
            parts = tokens.parts[place, : index.lengths[number]]
            rows = as_stored(parts if tokens.summary is None else torch.cat([tokens.summary[place, None], parts]), stored=stored)
            begin, end = max(span.start, firsts[number]), min(span.stop, firsts[number + 1])
            values[begin - span.start : end - span.start] = rows[begin - firsts[number] : end - firsts[number]]


class TextReader:
    """Reads the text tower's cached output for captions."""

    def __init__(self, rows: Rows, folder: Path, *, max_length: int) -> None:
        self._rows = RowReader(rows, folder)
        self._index = Index.read(folder)
        self._order = np.argsort(self._index.ids)
        self._sorted = self._index.ids[self._order]
        self._firsts = self._index.firsts
        self._max_length = max_length

    def any_id(self, count: int) -> Tensor:
        """Return the hash of any caption, repeated."""
        return torch.from_numpy(self._index.ids[:1]).repeat(count)

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """Return the fields of a batch for captions of these hashes (B,): tokens (B, N, D), mask (B, N) and, if there is one, the summary.

        Raises:
            ValueError: a caption that is not in the cache.
        """
        wanted = ids.numpy()
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        if not (self._sorted[places] == wanted).all():
            raise ValueError("data.features: a caption is not in the cache; make it again for this data")
        numbers = self._order[places]
        lengths, firsts = torch.from_numpy(self._index.lengths[numbers]), self._firsts[numbers]
        longest = min(math.ceil(int(lengths.max()) / BUCKET) * BUCKET, self._max_length)
        mask = torch.arange(longest) < lengths[:, None]
        starts = (firsts + self._index.summary).tolist()
        rows = self._rows.read(np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths.tolist(), strict=True)]))
        tokens = rows.new_zeros(len(wanted), longest, rows.shape[-1])
        tokens[mask] = rows
        summary = {"text_summary": self._rows.read(firsts)} if self._index.summary else {}
        return {"text_features": tokens, "text_mask": mask, **summary}
