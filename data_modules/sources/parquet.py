"""Parquet files with image bytes and captions, local or behind any fsspec URL.  Row groups are the
shards.

An image column holds bytes, or a struct with a field ``bytes`` as Hugging Face writes it.  Row
groups are read whole, so those that are shuffled together must fit into ``CACHED`` bytes; ``gestalt
data pack`` makes tars of files with larger row groups.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.file_checks import check_magic
from gestalt.data_modules.corpora.shards import (
    THREADS,
    LRUCache,
    Shard,
    ShardReader,
    cache_folder,
    filesystem,
    is_remote,
    look_up,
    over_http,
    with_retries,
)
from gestalt.data_modules.corpora.stores import ShardedStore, image_bytes
from gestalt.data_modules.corpora.table_files import find_columns
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.support.addresses import without_secrets
from gestalt.support.files import Fields, read_json, replacing, short_digest

CACHED = 512 * 2**20
"""Bytes of row groups that each process caches."""

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


class ParquetRows(ShardedStore):
    """Rows of parquet files."""

    def __init__(
        self,
        root: str,
        *,
        columns: list[str | None],
        window: int,
        cache: Path,
    ) -> None:
        """Read the footers of all files.

        Raises:
            ValueError: no file, a file that is not parquet, no such column, or ``window`` row
                groups exceed ``CACHED`` bytes: almost every row would read a row group again.
        """
        self._remote = is_remote(root)
        self._shards = find_parquet(root)
        self._groups: list[tuple[str, int]] = []  # path, row group in it
        self._columns: list[str] = []
        lengths, sizes, facts = [], [], []
        with ThreadPoolExecutor(THREADS) as pool:
            footers = list(pool.map(read_footer, self._shards))
        for shard, footer in zip(self._shards, footers, strict=True):
            path = shard.url
            names = footer.schema.to_arrow_schema().names
            found = find_columns(names, self._columns or columns, where=path)
            if self._columns not in ([], found):
                raise ValueError(
                    f"parquet: {path} has columns {found}, the first file of {root} "
                    f"{self._columns}; rename them"
                )
            self._columns = found
            for group in range(footer.num_row_groups):
                metadata = footer.row_group(group)
                self._groups.append((path, group))
                lengths.append(metadata.num_rows)
                chunks = chunks_of(metadata, found)
                sizes.append(sum(chunk.total_uncompressed_size for chunk in chunks))
                facts.append(f"{shard.name}\0{metadata.num_rows}\0{metadata.total_byte_size}\0")
        if not sum(lengths):
            raise ValueError(f"parquet: the {len(footers)} files of {root} have no rows")
        super().__init__(lengths)
        totals = np.cumsum(sorted(sizes, reverse=True))
        if window > 1 and (total := totals[:window][-1]) > CACHED:
            fits = max(1, np.count_nonzero(totals <= CACHED))
            raise ValueError(
                f"data.window_shards={window}: that many row groups can take "
                f"{total / 2**20:,.0f} MiB, and a process caches {CACHED / 2**20:,.0f}; choose "
                f"{fits}, or pack them into tars (`gestalt data pack`, with data.window_shards=1)"
            )
        layout = short_digest("".join(facts) + "\0".join(self._columns))
        column = short_digest(f"{root}\0{self._columns[1]}")
        place = cache / "captions" / f"{column}.json"
        self._digest = short_digest(f"{layout}\0{self._captions_hash(footers, place=place)}")
        self._tables: LRUCache[pa.Table] = LRUCache(CACHED)

    def _captions_hash(self, footers: Sequence[Any], place: Path) -> str:
        """Return the hash over the stored bytes of all captions.

        That of an unchanged remote file is kept in the file ``place``, by its address, size and
        stamp; a damaged file counts as empty.
        """
        known: Any = {}
        current: Fields = {}
        with suppress(OSError, ValueError):
            known = read_json(place, "object")

        def hashed(shard: Shard, footer: Any) -> bytes:
            state = f"{short_digest(shard.url)}\0{shard.size}\0{shard.stamp}"
            digits = known.get(state)
            if not re.fullmatch("[0-9a-f]{64}", str(digits)):
                digits = hash_column(shard, footer=footer, column=self._columns[1]).hex()
            if self._remote and shard.stamp:
                current[state] = digits
            return bytes.fromhex(digits)

        total = hashlib.sha256()
        with ThreadPoolExecutor(THREADS) as pool:
            for captions in pool.map(hashed, self._shards, footers):
                total.update(captions)
        if current != known:
            # if writing fails, the next start computes them again
            with suppress(OSError), replacing(place) as file:
                file.write_text(json.dumps(current))
        return total.hexdigest()

    def digest(self) -> str:
        """Return the digest of file names, row groups (number of rows, bytes), columns, and the
        bytes of all captions.
        """
        return self._digest

    def read(self, index: int) -> StoredPair:
        """Read a row's image and captions.

        Raises:
            BadSample: a local row group cannot be read, or the row has no image.
            OSError: a remote file cannot be read.
        """
        group, row = self.place(index)
        where, in_file = self._groups[group]
        key = f"row group {in_file}, row {row}"
        with bad_sample_at(where, key):
            try:
                table = self._tables.get(group, lambda: self._read(group, self._columns))
                image, caption = (table.column(name)[row].as_py() for name in self._columns)
            except UnicodeDecodeError as error:
                raise BadSample("caption_encoding", f"byte {error.start} is not UTF-8") from error
            except (OSError, pa.ArrowException, IndexError) as error:
                damaged = not isinstance(error, OSError) or "checksum" in str(error).lower()
                if self._remote and not damaged:
                    # a failure of the network, not of the sample: the run stops and can resume
                    # from its checkpoint
                    raise
                raise BadSample("unreadable", str(error)) from error
            return StoredPair(where, key, image_bytes(image), caption)

    def join_values(self, name: str) -> Iterator[Any]:
        """Yield a column's values."""
        for group in range(len(self._groups)):
            table, _ = self._read(group, [name])
            yield from (row.get(name) for row in table.to_pylist())

    def _read(self, group: int, columns: list[str]) -> tuple[pa.Table, int]:
        path, in_file = self._groups[group]
        table = read_parquet(
            path,
            lambda parquet: parquet.read_row_group(in_file, columns=columns, use_threads=False),
        )
        return table, table.nbytes


def open_here(
    *,
    root: str | None,
    captions: CaptionRule,
    image_column: str | None = None,
    window: int = 1,
    cache: str | None = None,
) -> ParquetRows:
    """Open parquet files.

    Args:
        root: a file, a folder or a pattern.
        captions: selects the caption.
        image_column: None to search for a usual name.
        window: number of row groups that are shuffled together.
        cache: folder for the hashes of remote captions; None for ``cache_home``.

    Raises:
        ValueError: no root, no file, a file that is not parquet, no such column, or row groups that
            are too large for the window.
    """
    if root is None:
        raise ValueError(
            "parquet needs data.root: a file, a folder of *.parquet, or a pattern such as "
            "DIR/train-*.parquet"
        )
    return ParquetRows(
        root,
        columns=[image_column, captions.column],
        window=window,
        cache=cache_folder(cache),
    )
