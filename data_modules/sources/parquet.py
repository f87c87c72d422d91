"""Parquet files with the bytes of images and columns of texts, local or behind any fsspec URL.  Row groups are the shards.

An image column holds bytes, or a struct with a field ``bytes`` as Hugging Face writes it. A row group is read whole, so the window of those
that are shuffled together must fit into ``KEPT``; ``gestalt data pack`` makes tars of files whose row groups are too large.
"""

import hashlib
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.columns import CAPTIONS, IMAGES, find_column
from data_modules.corpora.lru_cache import LRUCache
from data_modules.corpora.stored_pairs import Stored, StoredPairs

KEPT = 512 * 2**20
"""Bytes of row groups that each process keeps."""


class ParquetRows:
    """Rows as stored pairs."""

    def __init__(self, root: str, *, image_column: str | None, caption_column: str | None) -> None:
        """Read the footers of all files.

        Raises:
            ValueError: no file, one that is no parquet file, or no such column.
        """
        self._files, self._paths = _find_files(root)
        self._groups: list[tuple[int, int]] = []  # file, row group in it
        lengths, sizes, hashed = [], [], []
        for number, path in enumerate(self._paths):
            footer = _footer(self._files, path)
            columns = footer.schema.to_arrow_schema().names
            if number == 0:
                self._image = find_column(columns, image_column, usual=IMAGES, key="data.options.image_column", where=path)
                self._caption = find_column(columns, caption_column, usual=CAPTIONS, key="data.caption", where=path)
            for name, key in ((self._image, "data.options.image_column"), (self._caption, "data.caption")):
                find_column(columns, name, usual=(), key=key, where=path)
            for group in range(footer.num_row_groups):
                about = footer.row_group(group)
                self._groups.append((number, group))
                lengths.append(about.num_rows)
                chunks = [about.column(column) for column in range(about.num_columns)]
                sizes.append(
                    sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in (self._image, self._caption))
                )
                hashed.append(f"{PurePosixPath(path).name}\0{about.num_rows}\0{about.total_byte_size}\0")
        self._lengths = np.array(lengths, dtype=np.int64)
        if not self._lengths.sum():
            raise ValueError(f"parquet: the {len(self._paths)} files of {root} have no rows")
        self._ends = np.cumsum(self._lengths)
        self._hashed = "".join(hashed) + f"{self._image}\0{self._caption}"
        self._sizes = sorted(sizes, reverse=True)
        self._recent: LRUCache[pa.Table] = LRUCache(KEPT)

    def check_window(self, window: int) -> None:
        """Refuse a window that would be read again for almost every row.

        Raises:
            ValueError: the largest row groups, so many, are more than is kept.
        """
        held = np.cumsum(self._sizes)
        if window > 1 and held[:window][-1] > KEPT:
            fits = max(1, int(np.searchsorted(held, KEPT, side="right")))
            raise ValueError(
                f"data.window_shards={window}: so many row groups may be {held[:window][-1] / 2**20:,.0f} MiB, and a process keeps "
                f"{KEPT / 2**20:,.0f}; choose {fits}, or make tars of them by gestalt data pack with data.window_shards=1"
            )

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._ends[-1])

    def blocks(self) -> list[int]:
        """Rows of each row group."""
        return [int(length) for length in self._lengths]

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the files' names, their row groups' rows and sizes in bytes, and the columns."""
        return hashlib.sha256(self._hashed.encode()).hexdigest()[:16]

    def stored(self, index: int) -> Stored:
        """A row's image and texts.

        Raises:
            BadSample: the row group cannot be read here, or there is no image in the row.
            OSError: a remote file cannot be read.
        """
        group = int(np.searchsorted(self._ends, index, side="right"))
        row = index - int(self._ends[group] - self._lengths[group])
        file, in_file = self._groups[group]
        where, key = self._paths[file], f"row group {in_file}, row {row}"
        try:
            table = self._recent.get(group, lambda: self._read(group))
        except (OSError, pa.ArrowException) as error:
            if not isinstance(self._files, LocalFileSystem):
                raise  # the network's fault, not the sample's: the run stops, and goes on from its checkpoint
            raise BadSample("unreadable", where=where, key=key, detail=" ".join(str(error).split())) from error
        image = table.column(self._image)[row].as_py()
        content = image.get("bytes") if isinstance(image, dict) else image
        if content is None:
            raise BadSample("missing_image", where=where, key=key)
        return Stored(where, key, content, table.column(self._caption)[row].as_py())

    def _read(self, group: int) -> tuple[pa.Table, int]:
        file, in_file = self._groups[group]
        with self._files.open(self._paths[file], "rb") as opened, pq.ParquetFile(opened) as parquet:
            table = parquet.read_row_group(in_file, columns=[self._image, self._caption], use_threads=False)
        return table, table.nbytes


def _find_files(root: str) -> tuple[Any, list[str]]:
    """A file system, and the parquet files that a file, folder or pattern names, in order of their names."""
    files, path = fsspec.core.url_to_fs(root)
    if any(letter in path for letter in "*?["):
        found = files.glob(path)
    elif files.isdir(path):
        found = files.glob(f"{path.rstrip('/')}/**/*.parquet")
    else:
        found = [path] if files.exists(path) else []
    if not found:
        raise ValueError(
            f"parquet: no file at {root}; data.root is a file, a folder of *.parquet, or a pattern such as DIR/train-*.parquet"
        )
    return files, sorted(found)


def _footer(files: Any, path: str) -> Any:
    try:
        with files.open(path, "rb") as opened, pq.ParquetFile(opened) as parquet:
            return parquet.metadata
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"parquet: {path} cannot be read: {' '.join(str(error).split())}") from error


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    captions: CaptionRule = ANY_CAPTION,
    image_column: str | None = None,
    window: int = 1,
) -> StoredPairs:
    """Open parquet files.

    Args:
        root: a file, a folder or a pattern.
        size: side of the images, pixels.
        seed: of every random draw.
        limit: take the first rows.
        captions: which texts are captions.
        image_column: None for the one with a usual name.
        window: row groups that are shuffled together.

    Raises:
        ValueError: no root, a window that cannot be kept, or as ``ParquetRows``.
    """
    if root is None:
        raise ValueError("parquet needs data.root: a file, a folder of *.parquet, or a pattern such as DIR/train-*.parquet")
    rows = ParquetRows(root, image_column=image_column, caption_column=captions.column)
    rows.check_window(window)
    return StoredPairs(rows, size=size, seed=seed, rule=captions, limit=limit)
