"""Files of parquet: find them, and read their footers and the stored bytes of a column, without
harm from damaged ones.
"""

import hashlib
import io
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
from gestalt.data_modules.corpora.shards import Shard, check_ranges, look_up

Result = TypeVar("Result")
MAGIC = b"PAR1"
PART = 8 * 2**20
"""Bytes of one request for captions, at most."""


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
    check_ranges(shards)
    if not is_remote(root):
        for path in urls:
            check_magic(path)
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


def read_footer(root: str, path: str) -> Any:
    """Return the footer of a parquet file.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return read_parquet(root, path, lambda parquet: parquet.metadata)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(
            f"parquet: {path} cannot be read: {' '.join(str(error).split())}"
        ) from error


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
