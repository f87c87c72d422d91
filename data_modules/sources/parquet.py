"""Parquet files with image bytes and captions, local or behind any fsspec URL.  Row groups are the shards.

An image column holds bytes, or a struct with a field ``bytes`` as Hugging Face writes it.  Row groups are read whole, so those that are
shuffled together must fit into ``CACHED`` bytes; ``gestalt data pack`` makes tars of files with larger row groups.
"""

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
from data_modules.corpora.stored_pairs import Store
from data_modules.digest import short_digest
from data_modules.sources import Stored

CACHED = 512 * 2**20
"""Bytes of row groups that each process caches."""


class ParquetRows(Store):
    """Rows of parquet files."""

    def __init__(self, root: str, *, image_column: str | None, caption_column: str | None) -> None:
        """Read the footers of all files.

        Raises:
            ValueError: no file, a file that is not parquet, or no such column.
        """
        self._files, self._paths = _find_files(root)
        self._groups: list[tuple[int, int]] = []  # file, row group in it
        lengths, sizes, facts = [], [], []
        for number, path in enumerate(self._paths):
            footer = _footer(self._files, path)
            columns = footer.schema.to_arrow_schema().names
            if number == 0:
                self._image = find_column(columns, image_column, usual=IMAGES, key="data.options.image_column", where=path)
                self._caption = find_column(columns, caption_column, usual=CAPTIONS, key="data.caption", where=path)
            for name, key in ((self._image, "data.options.image_column"), (self._caption, "data.caption")):
                find_column(columns, name, usual=(), key=key, where=path)
            for group in range(footer.num_row_groups):
                metadata = footer.row_group(group)
                self._groups.append((number, group))
                lengths.append(metadata.num_rows)
                chunks = [metadata.column(column) for column in range(metadata.num_columns)]
                sizes.append(
                    sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] in (self._image, self._caption))
                )
                facts.append(f"{PurePosixPath(path).name}\0{metadata.num_rows}\0{metadata.total_byte_size}\0")
        self._lengths = np.array(lengths, dtype=np.int64)
        if not self._lengths.sum():
            raise ValueError(f"parquet: the {len(self._paths)} files of {root} have no rows")
        self._ends = np.cumsum(self._lengths)
        self._digest = short_digest("".join(facts) + f"{self._image}\0{self._caption}")
        self._sizes = sorted(sizes, reverse=True)
        self._tables: LRUCache[pa.Table] = LRUCache(CACHED)

    def check_window(self, window: int) -> None:
        """Check that the row groups of a window fit into the cache; otherwise almost every row would read one again.

        Raises:
            ValueError: the largest ``window`` row groups exceed ``CACHED`` bytes.
        """
        totals = np.cumsum(self._sizes)
        if window > 1 and totals[:window][-1] > CACHED:
            fits = max(1, int(np.searchsorted(totals, CACHED, side="right")))
            raise ValueError(
                f"data.window_shards={window}: that many row groups can take {totals[:window][-1] / 2**20:,.0f} MiB, and a process caches "
                f"{CACHED / 2**20:,.0f}; choose {fits}, or make tars of them by gestalt data pack with data.window_shards=1"
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def blocks(self) -> list[int]:
        """Return the number of rows in each row group."""
        return [int(length) for length in self._lengths]

    def digest(self) -> str:
        """Return the digest of file names, row groups (number of rows, bytes) and columns."""
        return self._digest

    def stored(self, index: int) -> Stored:
        """Read a row's image and captions.

        Raises:
            BadSample: a local row group cannot be read, or the row has no image.
            OSError: a remote file cannot be read.
        """
        group = int(np.searchsorted(self._ends, index, side="right"))
        row = index - int(self._ends[group] - self._lengths[group])
        file, in_file = self._groups[group]
        where, key = self._paths[file], f"row group {in_file}, row {row}"
        try:
            table = self._tables.get(group, lambda: self._read(group))
        except (OSError, pa.ArrowException) as error:
            if not isinstance(self._files, LocalFileSystem):
                raise  # a failure of the network, not of the sample: the run stops and can resume from its checkpoint
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
    """Return the file system and the sorted parquet files of a file, folder or pattern."""
    files, path = fsspec.core.url_to_fs(root)
    if files.isdir(path):  # first: its name may hold letters of a pattern
        paths = [name for name in files.find(path) if name.endswith(".parquet")]
    elif files.isfile(path):
        paths = [path]
    else:
        paths = files.glob(path) if any(letter in path for letter in "*?[") else []
    if not paths:
        raise ValueError(
            f"parquet: no file at {root}; data.root is a file, a folder of *.parquet, or a pattern such as DIR/train-*.parquet"
        )
    return files, sorted(paths)


def _footer(files: Any, path: str) -> Any:
    try:
        with files.open(path, "rb") as opened, pq.ParquetFile(opened) as parquet:
            return parquet.metadata
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"parquet: {path} cannot be read: {' '.join(str(error).split())}") from error


def open_here(*, root: str | None, captions: CaptionRule = ANY_CAPTION, image_column: str | None = None, window: int = 1) -> ParquetRows:
    """Open parquet files.

    Args:
        root: a file, a folder or a pattern.
        captions: selects the caption.
        image_column: None to search for a usual name.
        window: number of row groups that are shuffled together.

    Raises:
        ValueError: no root, a window that exceeds the cache, or as ``ParquetRows``.
    """
    if root is None:
        raise ValueError("parquet needs data.root: a file, a folder of *.parquet, or a pattern such as DIR/train-*.parquet")
    rows = ParquetRows(root, image_column=image_column, caption_column=captions.column)
    rows.check_window(window)
    return rows
