"""Files of parquet: find them, and read their footers and the stored bytes of a column, without harm from damaged ones."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from data_modules.corpora.remote import THREADS, filesystem, is_remote, read_range, with_retries
from data_modules.corpora.shards import Shard, check_ranges, look_up

Result = TypeVar("Result")
MAGIC = b"PAR1"
PART = 8 * 2**20
"""Bytes of one request for captions, at most."""

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
"""Program that reads the metadata of every column: arrow ends the whole process where a footer is damaged."""


def read_parquet(root: str, path: str, read: Callable[[Any, Any], Result]) -> Result:
    """Return what ``read`` makes of a parquet file and of the file object below it; a remote file is read again after a failure.

    Raises:
        OSError, pa.ArrowException: it cannot be read, or a page differs from its checksum, where the file has checksums.
    """

    def request() -> Result:
        files = filesystem(root)[0]
        with files.open(path, "rb") as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            return read(parquet, file)

    return with_retries(request, url=path) if is_remote(root) else request()


def find_parquet(root: str) -> list[Shard]:
    """Return the parquet files of a file, folder or pattern, sorted by path.

    Raises:
        ValueError: no file, one that is not a regular file, a server without range requests, or a damaged footer.
    """
    files, path = filesystem(root)
    over_http = root.startswith(("http://", "https://"))
    if over_http and path.endswith(".parquet") and "*" not in path:
        paths = [] if look_up(root) is None else [path]
    elif files.isdir(path):  # before the pattern, since the name of a folder may contain * or ?
        paths = [name for name in files.find(path) if name.endswith(".parquet")]
    elif files.isfile(path):
        paths = [path]
    else:
        paths = files.glob(path) if any(letter in path for letter in "*?[") else []
    if not paths:
        raise ValueError(
            f"parquet: no file at {root}; data.root is a file, a folder of *.parquet, or a pattern such as DIR/train-*.parquet"
        )
    urls = [files.unstrip_protocol(path) if is_remote(root) else path for path in sorted(paths)]
    with ThreadPoolExecutor(THREADS) as pool:
        shards = [
            shard or Shard(url, 0, "") for url, shard in zip(urls, pool.map(look_up, urls), strict=True)
        ]  # a file that has gone missing is reported when it is read
    check_ranges(shards)
    if not is_remote(root):
        for path in urls:
            check_magic(path)
        _check_footers(urls)
    return shards


def check_magic(path: str) -> None:
    """Check that a local file ends as parquet does.

    Raises:
        ValueError: it does not, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - len(MAGIC)))
            end = file.read()
    except OSError as error:
        raise ValueError(f"parquet: {path} cannot be read: {error.strerror}") from error
    if end != MAGIC:
        raise ValueError(f"parquet: {path} cannot be read: it does not end in {MAGIC.decode()}, truncated or not parquet; copy it again")


def _check_footers(paths: Sequence[str]) -> None:
    """Check in a subprocess that arrow can read the footers of local files, since a damaged one ends the process.

    Raises:
        ValueError: names the file whose footer ends the process.
    """
    names = b"\0".join(map(os.fsencode, paths))
    done = subprocess.run([sys.executable, "-P", "-c", _TOUCH_FOOTERS], input=names, capture_output=True, check=False)
    if done.returncode < 0:
        path = os.fsdecode(done.stdout.rstrip(b"\0").rpartition(b"\0")[2])
        raise ValueError(f"parquet: {path} cannot be read: its footer is damaged; write the file again")


def read_footer(root: str, path: str) -> Any:
    """Return the footer of a parquet file.

    Raises:
        ValueError: it cannot be read, or states more rows than the file has bytes.
    """
    try:
        footer, size = read_parquet(root, path, lambda parquet, file: (parquet.metadata, file.seek(0, io.SEEK_END)))
        lengths = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"parquet: {path} cannot be read: {' '.join(str(error).split())}") from error
    if any(length < 0 for length in lengths) or sum(lengths) > size:
        raise ValueError(f"parquet: {path} cannot be read: its footer states {sum(lengths):,} rows in {size:,} bytes")
    return footer


def chunks_of(metadata: Any, columns: Sequence[str]) -> list[Any]:
    """Return the column chunks of a row group that belong to these columns, nested ones included."""
    chunks = [metadata.column(column) for column in range(metadata.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]


def hash_column(path: str, *, footer: Any, column: str) -> bytes:
    """Return the SHA-256 of the stored bytes of a caption column, without decoding them; of a remote file no other bytes are read.

    Raises:
        ValueError: they cannot be read.
    """
    groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
    chunks = [chunk for group in groups for chunk in chunks_of(group, (column,))]
    total = hashlib.sha256()
    try:
        with nullcontext() if is_remote(path) else open(path, "rb") as file:
            for chunk in chunks:
                start = max(0, min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0))
                stop = start + chunk.total_compressed_size
                for first in range(start, stop, PART):
                    last = min(first + PART, stop)
                    content = read_range(path, first, stop=last) if file is None else _read_here(file, first, stop=last)
                    total.update(content)
                    if len(content) < last - first:  # beyond the end of the file
                        break
    except OSError as error:
        raise ValueError(f"parquet: {path} cannot be read: {' '.join(str(error).split())}") from error
    return total.digest()


def _read_here(file: Any, start: int, *, stop: int) -> bytes:
    file.seek(start)
    content: bytes = file.read(stop - start)
    return content
