"""Parquet files with image bytes and captions, local or behind any fsspec URL.  Row groups are the
shards.

An image column holds bytes, or a struct with a field ``bytes`` as Hugging Face writes it.  Row
groups are read whole, so those that are shuffled together must fit into ``CACHED`` bytes; ``gestalt
data pack`` makes tars of files with larger row groups.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.columns import find_columns
from gestalt.data_modules.corpora.lru_cache import LRUCache
from gestalt.data_modules.corpora.parquet_files import (
    chunks_of,
    find_parquet,
    hash_column,
    read_footer,
    read_parquet,
)
from gestalt.data_modules.corpora.remote import is_remote
from gestalt.data_modules.corpora.shards import THREADS, Shard, cache_folder
from gestalt.data_modules.corpora.stores import ShardedStore, image_bytes
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.support.files import Fields, read_json, replacing, short_digest

CACHED = 512 * 2**20
"""Bytes of row groups that each process caches."""


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
