"""A data set of the Hugging Face hub, or a folder of one, through the library ``datasets``.

Map-style, the default, reads arrow files on disk with access to any row, so samples are shuffled
and resume exactly.  Streaming reads the rows in sequence and does not shuffle: the library's
shuffle buffer is lost on resume, and its split by node and worker makes the samples depend on the
number of processes.  Instead every process reads the whole sequence and takes its own rows.
"""

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.columns import IMAGES, find_columns
from gestalt.data_modules.corpora.lru_cache import LRUCache
from gestalt.data_modules.corpora.stores import Store, image_bytes
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.data_modules.pixels.photographs import read_bytes
from gestalt.support.files import Fields, short_digest
from gestalt.support.plugins import in_one_line

_AT_ONCE = 10_000  # captions hashed at a time
# number of rows that enter the digest, of a map-style set and of a stream
_HASHED, _HASHED_FIRST = 64, 8


@dataclass(eq=False)
class _HubStore(Store):
    """Rows of a data set, with their image and caption columns.

    Attributes:
        rows: as the library opens them; then their two columns, with undecoded images.
        where: name of the data set.
        length: number of rows.
        columns: the configured columns of images and of captions; None to search for a usual name.
    """

    rows: Any
    where: str
    length: int
    columns: list[str | None]

    def __post_init__(self) -> None:
        """Find the columns.

        Raises:
            ValueError: undeclared columns, no such column, several with a usual name, or several of
                one name.
        """
        features = self.rows.features
        if features is None:
            raise ValueError(
                f"hub: the stream {self.where} does not declare its columns, so it cannot be read; "
                "set data.options.streaming=false"
            )
        images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        self._image, self._caption = found = find_columns(
            list(features), self.columns, where=self.where, usual=images or IMAGES
        )
        self._whole, self.rows = self.rows, self.rows.select_columns(found)
        if self._image in images:
            self.rows = self.rows.cast_column(self._image, datasets.Image(decode=False))
        self._opened: LRUCache[_Position] = LRUCache(0)

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> StoredPair:
        """Read a row's image and captions.

        Raises:
            BadSample: the row cannot be read, or has no image.
            ValueError: a stream ends before this row, or cannot be read now.
        """
        key = f"row {index}"
        with bad_sample_at(self.where, key):
            row = self._row(index)
            image = row[self._image]
            if isinstance(image, dict) and image.get("bytes") is None and image.get("path"):
                image = read_bytes(Path(image["path"]))
            return StoredPair(self.where, key, image_bytes(image), row[self._caption])

    def join_values(self, name: str) -> Iterator[Any]:
        """Yield a column's values, of a stream up to its ``data.limit``."""
        if name not in self._whole.features:
            return super().join_values(name)
        return (row[name] for row in islice(self._whole.select_columns([name]), len(self)))

    @abstractmethod
    def _row(self, index: int) -> Fields:
        """Return a row.

        Raises:
            BadSample: it cannot be read.
        """

    def _digest_of(self, rows: Iterable[str]) -> str:
        """Return the digest of the number of rows, the columns, and the given rows."""
        hashes = [hashlib.sha256(row.encode()).hexdigest() for row in rows]
        return short_digest(json.dumps([len(self), self._image, self._caption, hashes]))


class HubRows(_HubStore):
    """Rows of a map-style data set."""

    def digest(self) -> str:
        """Return the digest of the number of rows, the columns, some of the rows, and all
        captions.
        """
        chosen = np.linspace(0, len(self) - 1, min(_HASHED, len(self)), dtype=int).tolist()
        return short_digest(f"{self._digest_of(map(self._written, chosen))}\0{self._captions_hash}")

    def _written(self, row: int) -> str:
        try:
            return repr(self.rows[row])
        except (
            OSError,
            UnicodeDecodeError,
            pa.ArrowException,
        ) as error:  # the row is a bad sample
            return repr(error)

    @cached_property
    def _captions_hash(self) -> str:
        total = hashlib.sha256()
        for batch in (
            self.rows.select_columns([self._caption]).with_format("arrow").iter(batch_size=_AT_ONCE)
        ):
            column = batch.column(0)
            try:
                total.update(json.dumps(column.to_pylist(), default=repr).encode())
            except UnicodeDecodeError:
                total.update(
                    repr(
                        [
                            chunk.buffers() and bytes(chunk.buffers()[-1] or b"")
                            for chunk in column.chunks
                        ]
                    ).encode()
                )
        return total.hexdigest()

    def _row(self, index: int) -> Fields:
        try:
            return dict(self.rows[index])
        except UnicodeDecodeError as error:
            raise BadSample("caption_encoding", str(error)) from error
        except (OSError, pa.ArrowException) as error:
            raise BadSample("unreadable", str(error)) from error


class HubStream(_HubStore):
    """Rows of a streamed data set.  Indices must ascend; a lower one restarts the stream."""

    in_sequence = True

    def digest(self) -> str:
        """Return the digest of the number of rows, the columns, and the first rows."""
        rows = map(_Position(self.rows).row, range(min(_HASHED_FIRST, self.length)))
        return self._digest_of(map(repr, rows))

    def _row(self, index: int) -> Fields:
        """Return a row.

        Raises:
            ValueError: the stream ends before this row, or cannot be read now.
        """
        reader = self._opened.get(os.getpid(), lambda: (_Position(self.rows), 0))
        try:
            row = reader.row(index)
        except Exception as error:  # the library reads over many protocols
            raise ValueError(
                f"hub: row {index} of the stream {self.where} cannot be read now: "
                f"{in_one_line(error)}; continue with resume=last"
            ) from error
        if row is None:
            raise ValueError(
                f"hub: the stream {self.where} ends before row {index}, but "
                f"data.limit={self.length}; lower it"
            )
        return row


@dataclass
class _Position:
    """Reading position of one process in a stream: the number of the next row."""

    rows: Any
    next: int = 0
    iterator: Iterator[dict[str, list[Any]]] | None = None

    def row(self, index: int) -> Fields | None:
        """Return a row; None beyond the end."""
        if self.iterator is None or index < self.next:
            rows = self.rows.skip(index) if index else self.rows
            # plain iteration would give each loading process a share
            self.iterator, self.next = rows.iter(batch_size=1), index
        row = None
        while self.next <= index:
            row, self.next = next(self.iterator, None), self.next + 1
        return row and {name: values[0] for name, values in row.items()}


def open_here(
    *,
    root: str | None,
    limit: int | None,
    captions: CaptionRule,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
    streaming: bool = False,
    image_column: str | None = None,
) -> HubRows | HubStream:
    """Open a split of a data set.

    Args:
        root: name on the hub, or a folder.
        limit: number of rows; required for a stream of unknown length.
        captions: selects the caption.
        name: configuration of the data set; None for its default.
        split: name of the split.
        revision: commit, tag or branch on the hub; None for the newest, which may change.
        streaming: True to read over the network in sequence instead of from a copy on disk.
        image_column: None for the column of image type.

    Raises:
        ValueError: no root, a data set that cannot be opened, no such column, or a stream of
            unknown length.
    """
    if root is None:
        raise ValueError(
            "hub needs data.root: the name of a data set on the hub, or a folder of one"
        )
    try:
        if (Path(root) / "state.json").is_file() or (Path(root) / "dataset_dict.json").is_file():
            if streaming:
                raise ValueError(
                    "a folder written by save_to_disk cannot be streamed; set "
                    "data.options.streaming=false"
                )
            splits = datasets.load_from_disk(root)
            if isinstance(splits, datasets.Dataset):
                splits = {str(splits.split or "train"): splits}
            if split not in splits:
                raise ValueError(
                    f"it has no split {split}; choose one by data.options.split=NAME of "
                    f"{', '.join(splits)}"
                )
            rows = splits[split]
        else:
            rows = datasets.load_dataset(
                root, name, split=split, streaming=streaming, revision=revision
            )
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"hub: {root} cannot be opened: {' '.join(str(error).split())}") from error
    columns = [image_column, captions.column]
    if not streaming:
        return HubRows(rows, root, len(rows), columns)
    splits = rows.info.splits or {}
    known = splits[split].num_examples if split in splits else None
    length = limit if known is None else min(known, limit or known)
    if not length:
        raise ValueError(
            f"hub: the length of the stream {root} is unknown; set data.limit to the number of rows"
        )
    return HubStream(rows, root, length, columns)
