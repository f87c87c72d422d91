"""Parquet files with image bytes and captions, local or behind any fsspec URL.  Row groups are the shards.

An image column holds bytes, or a struct with a field ``bytes`` as Hugging Face writes it.  Row groups are read whole, so those that are
shuffled together must fit into ``CACHED`` bytes; ``gestalt data pack`` makes tars of files with larger row groups.
"""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.columns import CAPTIONS, IMAGES, find_column
from data_modules.corpora.lru_cache import LRUCache
from data_modules.corpora.remote import BLOCK, THREADS, filesystem, is_remote, patiently
from data_modules.corpora.shards import check_ranges, look_up
from data_modules.corpora.stored_pairs import Store
from data_modules.digest import short_digest
from data_modules.sources import Stored

CACHED = 512 * 2**20
"""Bytes of row groups that each process caches."""


Result = TypeVar("Result")

_TOUCH_FOOTERS = """
import resource, sys
import pyarrow.parquet as pq
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for path in sys.stdin.buffer.read().split(b"\\0"):
    sys.stdout.buffer.write(path + b"\\0")
    sys.stdout.flush()
    try:
        with open(path, "rb") as file:
            footer = pq.ParquetFile(file).metadata
            for group in range(footer.num_row_groups):
                [footer.row_group(group).column(column) for column in range(footer.row_group(group).num_columns)]
    except Exception:
        pass
"""
"""Program that looks at all columns of all row groups: in a damaged footer, arrow ends the whole process there."""


class ParquetRows(Store):
    """Rows of parquet files."""

    def __init__(self, root: str, *, image_column: str | None, caption_column: str | None) -> None:
        """Read the footers of all files.

        Raises:
            ValueError: no file, a file that is not parquet, or no such column.
        """
        self._root, self._paths = root, _find_files(root)
        if not is_remote(root):
            _check_footers(self._paths)
        self._groups: list[tuple[int, int]] = []  # file, row group in it
        lengths, sizes, facts, captions = [], [], [], hashlib.sha256()
        for number, path in enumerate(self._paths):
            footer = _footer(root, path)
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
                sizes.append(sum(chunk.total_uncompressed_size for chunk in _chunks(metadata, (self._image, self._caption))))
                facts.append(f"{PurePosixPath(path).name}\0{metadata.num_rows}\0{metadata.total_byte_size}\0")
            captions.update(_caption_bytes(root, path, footer=footer, column=self._caption))
        self._lengths = np.array(lengths, dtype=np.int64)
        if not self._lengths.sum():
            raise ValueError(f"parquet: the {len(self._paths)} files of {root} have no rows")
        self._ends = np.cumsum(self._lengths)
        self._earlier_digest = short_digest("".join(facts) + f"{self._image}\0{self._caption}")
        self._digest = short_digest(f"{self._earlier_digest}\0{captions.hexdigest()}")
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
        """Return the digest of file names, row groups (number of rows, bytes), columns, and the bytes of all captions."""
        return self._digest

    def earlier_digest(self) -> str:
        """Return the same without the bytes of captions."""
        return self._earlier_digest

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
            image, caption = table.column(self._image)[row].as_py(), table.column(self._caption)[row].as_py()
        except UnicodeDecodeError as error:
            raise BadSample("caption_encoding", where=where, key=key, detail=f"byte {error.start} is not UTF-8") from error
        except (OSError, pa.ArrowException, IndexError) as error:
            if is_remote(self._root) and isinstance(error, OSError) and "checksum" not in str(error).lower():
                raise  # a failure of the network, not of the sample: the run stops and can resume from its checkpoint
            raise BadSample("unreadable", where=where, key=key, detail=" ".join(str(error).split())) from error
        content = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(content, bytes):
            raise BadSample("missing_image", where=where, key=key, detail=f"expected bytes, got {type(content).__name__}")
        return Stored(where, key, content, caption)

    def _read(self, group: int) -> tuple[pa.Table, int]:
        file, in_file = self._groups[group]

        def read(parquet: Any, _: Any) -> pa.Table:
            return parquet.read_row_group(in_file, columns=[self._image, self._caption], use_threads=False)

        table = _opened(self._root, self._paths[file], read)
        return table, table.nbytes


def _opened(root: str, path: str, read: Callable[[Any, Any], Result]) -> Result:
    """Return what ``read`` makes of a parquet file and of the file object below it; a remote file is read again after a failure.

    Raises:
        OSError, pa.ArrowException: it cannot be read, or a page differs from its checksum, where the file has checksums.
    """

    def request(left: float) -> Result:
        files = filesystem(root)[0]
        with files.open(path, "rb") as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            return read(parquet, file)

    return patiently(request, url=path) if is_remote(root) else request(0.0)


def _find_files(root: str) -> list[str]:
    """Return the sorted parquet files of a file, folder or pattern.

    Raises:
        ValueError: none, one that is not a regular file, or a server that does not read by range.
    """
    files, path = filesystem(root)
    over_http = root.startswith(("http://", "https://"))
    if over_http and path.endswith(".parquet") and "*" not in path:
        paths = [] if look_up(root) is None else [path]
    elif files.isdir(path):  # first: its name may hold letters of a pattern
        paths = [name for name in files.find(path) if name.endswith(".parquet")]
    elif files.isfile(path):
        paths = [path]
    else:
        paths = files.glob(path) if any(letter in path for letter in "*?[") else []
    if not paths:
        raise ValueError(
            f"parquet: no file at {root}; data.root is a file, a folder of *.parquet, or a pattern such as DIR/train-*.parquet"
        )
    if over_http or not is_remote(root):
        with ThreadPoolExecutor(THREADS) as pool:
            check_ranges([shard for shard in pool.map(look_up, paths) if shard is not None])
    return sorted(paths)


def _check_footers(paths: Sequence[str]) -> None:
    """Check, in a process of its own, that arrow survives the footers of local files.

    Raises:
        ValueError: names the file whose footer ends the process.
    """
    names = b"\0".join(map(os.fsencode, paths))
    done = subprocess.run([sys.executable, "-P", "-c", _TOUCH_FOOTERS], input=names, capture_output=True, check=False)
    if done.returncode < 0:
        path = os.fsdecode(done.stdout.rstrip(b"\0").rpartition(b"\0")[2])
        raise ValueError(f"parquet: {path} cannot be read: its footer is damaged; write the file again")


def _footer(root: str, path: str) -> Any:
    try:
        footer, size = _opened(root, path, lambda parquet, file: (parquet.metadata, file.seek(0, io.SEEK_END)))
        lengths = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"parquet: {path} cannot be read: {' '.join(str(error).split())}") from error
    if any(length < 0 for length in lengths) or sum(lengths) > size:
        raise ValueError(f"parquet: {path} cannot be read: its footer states {sum(lengths):,} rows in {size:,} bytes")
    return footer


def _chunks(metadata: Any, columns: Sequence[str]) -> list[Any]:
    """Return the column chunks of a row group that belong to these columns, nested ones included."""
    chunks = [metadata.column(column) for column in range(metadata.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]


def _caption_bytes(root: str, path: str, *, footer: Any, column: str) -> bytes:
    """Return the SHA-256 of the stored bytes of a caption column, without decoding them."""
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    chunks = [chunk for group in groups for chunk in _chunks(group, (column,))]

    def read(_: Any, file: Any) -> bytes:
        total = hashlib.sha256()
        for chunk in chunks:
            left = chunk.total_compressed_size
            file.seek(max(0, min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)))
            while left > 0 and (content := file.read(min(left, BLOCK))):
                total.update(content)
                left -= len(content)
        return total.digest()

    try:
        return _opened(root, path, read)
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
