"""A data set of the Hugging Face hub, or a folder of one, through the library ``datasets``.

Map-style (the default) it is an arrow file on disk: any row is read at once, so the order is shuffled and resumes exactly. Streamed it is
read in sequence and not shuffled: the library's shuffle buffer loses its content at a resume, and its split by node and worker gives each
process other samples for another number of processes. So every process reads the one sequence and takes what is its own of it.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.columns import CAPTIONS, IMAGES, find_column
from data_modules.corpora.lru_cache import LRUCache
from data_modules.corpora.stored_pairs import Stored, StoredPairs
from data_modules.pixels.photographs import Undecodable, read_bytes

_HASHED, _FIRST = 64, 8  # rows that the digests look into: of all, and of the head of a stream


class HubRows:
    """Rows of a map-style data set as stored pairs."""

    def __init__(self, rows: Any, *, where: str, image_column: str | None, caption_column: str | None) -> None:
        """Take the rows."""
        self._where = where
        self._rows, self._image, self._caption = _prepared(rows, where, image_column=image_column, caption_column=caption_column)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def blocks(self) -> list[int]:
        """One block: a row is as quickly read as its neighbour."""
        return [len(self)]

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the number of rows, the columns, and what is in some of the rows."""
        some = np.linspace(0, len(self) - 1, min(_HASHED, len(self)), dtype=int).tolist()
        found = [hashlib.sha256(repr(self._rows[row]).encode()).hexdigest() for row in some]
        return hashlib.sha256(json.dumps([len(self), self._image, self._caption, found]).encode()).hexdigest()[:16]

    def stored(self, index: int) -> Stored:
        """A row's image and texts.

        Raises:
            BadSample: it has no image, or its file cannot be read.
        """
        return _stored(self._rows[index], self._where, index=index, image=self._image, caption=self._caption)


class HubStream:
    """Rows of a streamed data set as stored pairs: higher and higher indices in turn; a lower one begins anew."""

    in_sequence = True

    def __init__(self, rows: Any, *, where: str, length: int, image_column: str | None, caption_column: str | None) -> None:
        """Take the stream and the number of its rows that are read."""
        self._where = where
        self._length = length
        self._rows, self._image, self._caption = _prepared(rows, where, image_column=image_column, caption_column=caption_column)
        self._opened: LRUCache[_Position] = LRUCache(0)

    def __len__(self) -> int:
        """Number of rows that are read."""
        return self._length

    def blocks(self) -> list[int]:
        """One block."""
        return [self._length]

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the number of rows, the columns, and what is in the first rows."""
        reader = _Position(self._rows)
        first = [hashlib.sha256(repr(reader.row(row)).encode()).hexdigest() for row in range(min(_FIRST, self._length))]
        return hashlib.sha256(json.dumps([self._length, self._image, self._caption, first]).encode()).hexdigest()[:16]

    def stored(self, index: int) -> Stored:
        """A row's image and texts.

        Raises:
            BadSample: it has no image, or its file cannot be read.
            ValueError: the stream ends before.
        """
        reader = self._opened.get("reader", lambda: (_Position(self._rows), 0))
        row = reader.row(index)
        if row is None:
            raise ValueError(f"hub: the stream {self._where} ends before row {index}, and data.limit={self._length}; lower it")
        return _stored(row, self._where, index=index, image=self._image, caption=self._caption)


class _Position:
    """Where a process reads in a stream."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows
        self._next = 0
        self._iterator: Iterator[dict[str, Any]] | None = None

    def row(self, index: int) -> dict[str, Any] | None:
        """A row; None behind the end."""
        if self._iterator is None or index < self._next:
            self._iterator, self._next = self._from(index), index
        found = None
        while self._next <= index:
            found, self._next = next(self._iterator, None), self._next + 1
        return found

    def _from(self, index: int) -> Iterator[dict[str, Any]]:
        rows = self._rows.skip(index) if index else self._rows
        for batch in rows.iter(batch_size=1):  # plain iteration would give each loading process a part
            yield {name: values[0] for name, values in batch.items()}


def _prepared(rows: Any, where: str, *, image_column: str | None, caption_column: str | None) -> tuple[Any, str, str]:
    """The rows with their images left as bytes, and the columns of image and caption."""
    if rows.features is None:
        raise ValueError(f"hub: the stream {where} does not say its columns; it cannot be read")
    columns = list(rows.features)
    pictures = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
    image = find_column(columns, image_column, usual=pictures or IMAGES, key="data.options.image_column", where=where)
    caption = find_column(columns, caption_column, usual=CAPTIONS, key="data.caption", where=where)
    rows = rows.select_columns([image, caption])
    return (rows.cast_column(image, datasets.Image(decode=False)) if image in pictures else rows), image, caption


def _stored(row: dict[str, Any], where: str, *, index: int, image: str, caption: str) -> Stored:
    key, found = f"row {index}", row[image]
    if isinstance(found, dict):
        content, path = found.get("bytes"), found.get("path")
        if content is None and path is not None:
            try:
                content = read_bytes(Path(path))
            except Undecodable as error:
                raise BadSample(error.reason, where=where, key=key, detail=error.detail) from error
        found = content
    if not isinstance(found, bytes):
        raise BadSample("missing_image", where=where, key=key, detail=f"{type(found).__name__} where bytes should be")
    return Stored(where, key, found, row[caption])


def _load(root: str, *, name: str | None, split: str, streaming: bool, revision: str | None) -> Any:
    """The split, from a folder that ``save_to_disk`` made, from a folder of files, or from the hub."""
    try:
        if (Path(root) / "state.json").is_file() or (Path(root) / "dataset_dict.json").is_file():
            if streaming:
                raise ValueError("a folder that save_to_disk made is read map-style; choose streaming: false")
            return _saved_split(datasets.load_from_disk(root), split)
        return datasets.load_dataset(root, name, split=split, streaming=streaming, revision=revision)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"hub: {root} cannot be opened: {' '.join(str(error).split())}") from error


def _saved_split(saved: Any, split: str) -> Any:
    """A split of what ``save_to_disk`` wrote; a set that was saved alone is the split that it was, or ``train`` where it was none."""
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise ValueError(f"it has no split {split}; choose one by data.options.split=NAME of {', '.join(saved)}")
        return saved[split]
    held = "train" if saved.split is None else str(saved.split)
    if split != held:
        raise ValueError(f"it was saved as the split {held} alone, and data.options.split={split}; choose {held}")
    return saved


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    captions: CaptionRule = ANY_CAPTION,
    name: str | None = None,
    split: str = "train",
    revision: str | None = None,
    streaming: bool = False,
    image_column: str | None = None,
) -> StoredPairs:
    """Open a split of a data set.

    Args:
        root: its name on the hub, or a folder.
        size: side of the images, pixels.
        seed: of every random draw.
        limit: take the first rows; a stream that does not know its length needs it.
        captions: which texts are captions.
        name: the data set's configuration, where it has several.
        split: of the data set.
        revision: commit, tag or branch on the hub; None for the newest, which may change.
        streaming: read it over the network in sequence, in place of a copy on disk.
        image_column: None for the one of images.

    Raises:
        ValueError: no root, a data set that cannot be opened, no such column, or a stream without a length.
    """
    if root is None:
        raise ValueError("hub needs data.root: the name of a data set on the hub, or a folder that holds one")
    rows = _load(root, name=name, split=split, streaming=streaming, revision=revision)
    columns: dict[str, Any] = {"image_column": image_column, "caption_column": captions.column}
    if not streaming:
        return StoredPairs(HubRows(rows, where=root, **columns), size=size, seed=seed, rule=captions, limit=limit)
    known = rows.info.splits[split].num_examples if rows.info.splits and split in rows.info.splits else None
    length = limit if known is None else min(known, limit or known)
    if not length:
        raise ValueError(f"hub: the stream {root} does not say its length; give the number of its rows as data.limit")
    return StoredPairs(HubStream(rows, where=root, length=length, **columns), size=size, seed=seed, rule=captions)
