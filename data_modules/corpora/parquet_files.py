"""Files of parquet: find them, and read their footers and the stored bytes of a column, without
harm from damaged ones.
"""

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

from gestalt.data_modules.corpora.remote import (
    THREADS,
    filesystem,
    is_remote,
    read_range,
    with_retries,
)
from gestalt.data_modules.corpora.shards import Shard, look_up

Result = TypeVar("Result")
MAGIC = b"PAR1"
PART = 8 * 2**20
"""Bytes of one request for captions, at most."""

_READ_FOOTERS = """
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
                for column in range(footer.row_group(group).num_columns):
                    footer.row_group(group).column(column)
    except Exception:
        pass
"""
"""Program that reads the metadata of every column: arrow ends the process at a damaged footer."""


def read_parquet(root: str, path: str, read: Callable[[Any], Result]) -> Result:
    """Return the result of ``read`` for a parquet file; a remote file is read again after a
    failure.

    Raises:
        OSError, pa.ArrowException: it cannot be read, or a page differs from its checksum, where
            the file has checksums.
    """

    def request() -> Result:
        files = filesystem(root)[0]
        with (
            files.open(path, "rb") as file,
            pq.ParquetFile(file, page_checksum_verification=True) as parquet,
        ):
            return read(parquet)

    return with_retries(request, url=path) if is_remote(root) else request()


def find_parquet(root: str) -> list[Shard]:
    """Return the parquet files of a file, folder or pattern, sorted by path.

    Raises:
        ValueError: no file, one that is not a regular file, a server without range requests, or a
            damaged footer.
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
            f"parquet: no file at {root}; data.root is a file, a folder of *.parquet, or a pattern "
            "such as DIR/train-*.parquet"
        )
    urls = [files.unstrip_protocol(path) if is_remote(root) else path for path in sorted(paths)]
    with ThreadPoolExecutor(THREADS) as pool:
        shards = [
            shard or Shard(url, 0, "")
            for url, shard in zip(urls, pool.map(look_up, urls), strict=True)
        ]  # a file that has gone missing is reported when it is read
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
        raise ValueError(
            f"parquet: {path} cannot be read: it does not end in {MAGIC.decode()}, truncated or "
            "not parquet; copy it again"
        )


def _check_footers(paths: Sequence[str]) -> None:
    """Check in another process that arrow can read the footers of local files.

    Raises:
        ValueError: names the file whose footer ends that process.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ_FOOTERS],
        input=b"\0".join(map(os.fsencode, paths)),
        capture_output=True,
        check=False,
    )
    if done.returncode < 0:
        path = os.fsdecode(done.stdout.split(b"\0")[-2])
        raise ValueError(
            f"parquet: {path} cannot be read: its footer is damaged; copy it again, or write it "
            "anew"
        )


def read_footer(root: str, shard: Shard) -> Any:
    """Return the footer of a parquet file.

    Raises:
        ValueError: it cannot be read, or states more rows than the file has bytes.
    """
    try:
        footer = read_parquet(root, shard.url, lambda parquet: parquet.metadata)
        lengths = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        reason = f"its footer states {sum(lengths):,} rows in {shard.size:,} bytes"
        if min(lengths, default=0) >= 0 and sum(lengths) <= shard.size:
            return footer
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
    raise ValueError(
        f"parquet: {shard.url} cannot be read: {reason}; copy it again, or write it anew"
    )


def chunks_of(metadata: Any, columns: Sequence[str]) -> list[Any]:
    """Return the column chunks of a row group that belong to these columns, nested ones
    included.
    """
    chunks = [metadata.column(column) for column in range(metadata.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]


def hash_column(path: str, *, footer: Any, column: str) -> bytes:
    """Return the SHA-256 of the stored bytes of a caption column, without decoding them; of a
    remote file no other bytes are read.

    Raises:
        ValueError: they cannot be read.
    """
    total = hashlib.sha256()
    try:
        with nullcontext() if is_remote(path) else open(path, "rb") as file:
            for group in range(footer.num_row_groups):
                for chunk in chunks_of(footer.row_group(group), (column,)):
                    offsets = [
                        offset
                        for offset in (chunk.dictionary_page_offset, chunk.data_page_offset)
                        if offset
                    ]
                    start = min(offsets, default=0)
                    stop = start + chunk.total_compressed_size
                    for first in range(start, stop, PART):
                        size = min(PART, stop - first)
                        content = (
                            read_range(path, first, stop=first + size)
                            if file is None
                            else _read_here(file, first, size=size)
                        )
                        total.update(content)
                        if len(content) < size:  # beyond the end of the file
                            break
    except OSError as error:
        raise ValueError(
            f"parquet: {path} cannot be read: {' '.join(str(error).split())}"
        ) from error
    return total.digest()


def _read_here(file: Any, start: int, *, size: int) -> bytes:
    file.seek(start)
    content: bytes = file.read(size)
    return content
