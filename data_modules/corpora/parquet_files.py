"""Parquet files, local or behind any fsspec URL: which there are, their footers, and the stored
bytes of a column.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gestalt.data_modules.corpora.file_checks import check_magic
from gestalt.data_modules.corpora.remote import filesystem, is_remote, over_http, with_retries
from gestalt.data_modules.corpora.shards import THREADS, Shard, ShardReader, look_up
from gestalt.support.addresses import without_secrets

PART = 8 * 2**20
"""Bytes of one request for captions, at most."""

FOOTER_SECONDS = 120
"""Longest time of the check of all footers, and one second more for each file."""

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


def read_parquet(url: str, read: Callable[[Any], Any]) -> Any:
    """Return the result of ``read`` for a parquet file; a remote file is read again after a
    failure.

    Raises:
        OSError, pa.ArrowException: it cannot be read, or a page differs from its checksum, where
            the file has checksums.
    """
    system, path = filesystem(url)

    def request() -> Any:
        with (
            system.open(path, "rb") as file,
            pq.ParquetFile(file, page_checksum_verification=True) as parquet,
        ):
            return read(parquet)

    return with_retries(request, url) if is_remote(url) else request()


def find_parquet(root: str) -> list[Shard]:
    """Return the parquet files of a file, folder or pattern, sorted by path.

    Raises:
        ValueError: no file, one that is not a regular file, a server without range requests, or a
            damaged footer.
    """
    files, path = filesystem(root)
    if over_http(root) and without_secrets(path).endswith(".parquet") and "*" not in path:
        paths = [] if look_up(root) is None else [path]
    # a folder or file comes before a pattern, since its name may contain * or ?
    elif with_retries(lambda: files.isdir(path), url=root):
        paths = [name for name in files.find(path) if name.endswith(".parquet")]
    elif files.isfile(path):
        paths = [path]
    else:
        paths = files.glob(path)
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


def _check_footers(paths: Sequence[str]) -> None:
    """Check in another process that arrow can read the footers of local files.

    Raises:
        ValueError: names the file whose footer ends that process; or they cannot be checked.
    """
    seconds = FOOTER_SECONDS + len(paths)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _READ_FOOTERS],
            input=b"\0".join(map(os.fsencode, paths)),
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if not done.returncode:
            return
        output, failure = done.stdout, f"their reader ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        output, failure = b"", f"their reader took more than {seconds} seconds"
    if output:
        path = os.fsdecode(output.split(b"\0")[-2])
        raise ValueError(
            f"parquet: {path} cannot be read: its footer is damaged; copy it again, or write it "
            "anew"
        )
    raise ValueError(
        f"parquet: the footers of {len(paths):,} files from {paths[0]} on could not be checked: "
        f"{failure}; see that the machine has free memory and reads these files, and start again"
    )


def read_footer(shard: Shard) -> Any:
    """Return the footer of a parquet file.

    Raises:
        ValueError: it cannot be read, or states more rows than values of a column.
    """
    try:
        footer = read_parquet(shard.url, lambda parquet: parquet.metadata)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            columns = map(group.column, range(group.num_columns))
            values = min((column.num_values for column in columns), default=0)
            if not 0 <= group.num_rows <= values:
                raise OSError(
                    f"its footer states {group.num_rows:,} rows in a group, and a column of "
                    f"{values:,} values"
                )
        return footer
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"parquet: {shard.url} cannot be read: {reason}; copy it again, or write it anew"
        ) from error


def chunks_of(metadata: Any, columns: Sequence[str]) -> list[Any]:
    """Return the column chunks of a row group that belong to these columns, nested ones
    included.
    """
    chunks = map(metadata.column, range(metadata.num_columns))
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]


def hash_column(shard: Shard, *, footer: Any, column: str) -> bytes:
    """Return the SHA-256 of the stored bytes of a caption column, without decoding them; of a
    remote file no other bytes are read.

    Raises:
        ValueError: they cannot be read.
    """
    total, reader = hashlib.sha256(), ShardReader()
    try:
        for group in range(footer.num_row_groups):
            for chunk in chunks_of(footer.row_group(group), (column,)):
                offsets = chunk.dictionary_page_offset, chunk.data_page_offset
                start = min(filter(None, offsets), default=0)
                stop = start + chunk.total_compressed_size
                for first in range(start, stop, PART):
                    size = min(PART, stop - first)
                    (content,) = reader.read(shard, [(first, size)])
                    total.update(content)
                    if len(content) < size:  # the file ends here
                        break
    except OSError as error:
        raise ValueError(
            f"parquet: {shard.url} cannot be read: {' '.join(str(error).split())}"
        ) from error
    return total.digest()
