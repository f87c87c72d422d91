"""Captions of a table, joined to stored pairs, whose images stay as they are.

The hashes of the join values of both sides are sorted and merged once.  The texts are then written
in the order of the pairs, to one arrow file in the cache.  So a text is read as a slice of a mapped
file: without a search, without memory in each process, and the same on any rank.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets.data_files import DataFilesList
from numpy.typing import NDArray

from gestalt.data_modules.corpora.caption_files import copy_columns
from gestalt.data_modules.corpora.remote import over_http
from gestalt.data_modules.corpora.shards import cache_folder, look_up
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.corpora.stores import Store, value_hashes
from gestalt.data_modules.keys import OWN, Captions
from gestalt.data_modules.pairs import StoredPair
from gestalt.support.addresses import without_secrets
from gestalt.support.files import (
    Fields,
    locked,
    partial_beside,
    replacing,
    short_digest,
    write_whole,
)
from gestalt.support.plugins import in_one_line
from gestalt.support.process import tell
from gestalt.support.typed import NotThere

FORMAT = 2
"""Version of the join; another one is made anew."""

GATHERED, CHUNK = 65_536, 8192
"""Pairs whose texts are gathered at a time, and those of them that are written at a time."""

LEAST_JOINED = 0.5
"""Least share of the pairs that have a row."""

COMPARED, LEAST_SAME = 1000, 0.99
"""Number of pairs, joined by ``key``, whose URLs are compared, and the least share of equal
ones.
"""


@dataclass(eq=False)
class CaptionedPairs(StoredPairs):
    """Stored pairs with captions by column: those of the rule's table, and ``own``, the store's.

    Attributes:
        cache: folder of the joined texts.

    Raises:
        ValueError: a table that cannot be read, lacks a column, has no row for most of the pairs,
            or is of another crawl.
    """

    cache: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        table: Any = self.rule.table
        root = f"{table.root}/*" if os.path.isdir(table.root) else table.root
        try:
            files = DataFilesList.from_patterns([root])
            if not files:  # of a pattern; a file that is missing raises
                raise FileNotFoundError("no such file")
        except Exception as error:  # the hub's client and each file system have their own
            reason = in_one_line(error)
            if over_http(table.root):
                reason = _http_reason(table.root)
            raise NotThere(
                f"data.captions.root={without_secrets(table.root)}: {reason}; name a file or a "
                "pattern on this machine, or on a server that it reaches; `gestalt data get` "
                "downloads some"
            ) from error
        by = _join_names(table)[0]
        hashes, digest = cache(self.store.join_hashes), self.store.digest()
        state = [FORMAT, *files, *files.origin_metadata, table.by, *self.rule.weights, digest]
        if not self.store.digest_has_values:
            digest = hashlib.sha256(hashes(by).tobytes()).hexdigest()
        state.append(digest)
        place = cache_folder(self.cache) / "joined" / short_digest(json.dumps(state))
        texts, counts = place.with_suffix(".arrow"), place.with_suffix(".json")
        if not (texts.is_file() and counts.is_file()):  # a cache that may only be read has both
            tell(f"captions: joining {table.root}, once")
            with locked(place):  # other ranks wait for the first
                if not (texts.is_file() and counts.is_file()):
                    names = [name for name in self.rule.weights if name != OWN]
                    joined = _join(self.store, hashes, table, names, files, texts)
                    write_whole(counts, json.dumps(joined))
        self._texts: Any = datasets.Dataset.from_file(str(texts)).data
        self._counts: Fields = json.loads(counts.read_bytes())

    def digest(self) -> str:
        """Return the digest of the stored pairs and of the texts in their order."""
        return short_digest(f"{super().digest()}\0{self._counts['digest']}")

    def about(self) -> Fields:
        """Return the store's facts, and of the table its place, columns, weights and counts:
        ``pairs``, those ``with_row``, ``repeated_rows``, which are not used because an earlier one
        has the same value, and ``broken_rows``, whose number of fields differs from the header's.
        """
        facts = {**vars(self.rule.table), "weights": self.rule.weights, **self._counts}
        return super().about() | {"captions": facts}

    def captioned(self, stored: StoredPair, index: int) -> StoredPair:
        """Return a pair of the store with its captions by column."""
        captions = {
            name: stored.captions if name == OWN else self._texts.column(name)[index].as_py()
            for name in self.rule.weights
        }
        return stored._replace(captions=captions)


def _http_reason(url: str) -> str:
    """Return why the file of a web server cannot be read.

    Raises:
        ValueError: the server refuses, fails or cannot be reached; names the HTTP status.
    """
    try:
        look_up(url)
    except ValueError as error:
        raise ValueError(f"data.captions.root={without_secrets(str(error))}") from error
    return "the server has no such file (HTTP 404)"


def _join_names(table: Captions) -> tuple[str, str]:
    """Return the names of the join value in the pairs, and of its column in the table."""
    ((by, column),) = table.by.items() if isinstance(table.by, dict) else [(table.by, table.by)]
    return by, column


def _look_up_rows(
    pairs: NDArray[np.uint64], keys: NDArray[np.uint64], firsts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the first row of each pair's hash among sorted keys; 0 without one.

    The pairs are sorted too, because a search in ascending order stays in the processor's caches.
    """
    order = np.argsort(pairs)
    wanted = pairs[order]
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    rows = np.empty(len(pairs), np.int64)
    rows[order] = np.where(keys[at] == wanted, firsts[at], 0)
    return rows


def _gather(texts: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.Array:
    """Return the texts of rows, which count from 1, and null for row 0.

    Rows are taken chunk by chunk, because ``take`` of a chunked array copies the whole of it first.
    """
    order = np.argsort(rows)
    firsts = np.cumsum([1, *map(len, texts.chunks)])
    cuts = np.searchsorted(rows, firsts, sorter=order)
    parts = [pa.nulls(cuts[0], texts.type)]
    for chunk, first, start, stop in zip(texts.chunks, firsts, cuts, cuts[1:], strict=False):
        if start < stop:
            parts.append(chunk.take(pa.array(rows[order[start:stop]] - first)))
    return pa.concat_arrays(parts).take(pa.array(np.argsort(order)))


def _join(
    store: Store,
    hashes: Callable[[str], NDArray[np.uint64]],
    table: Captions,
    names: list[str],
    files: list[str],
    place: Path,
) -> Fields:
    """Write the texts of each pair's row, null without one.  Returns counts and the digest."""
    by, column = _join_names(table)
    partial = partial_beside(place).name  # the next writer removes what a killed process left
    # NFS keeps a deleted file that is still mapped, and with it the folder
    with TemporaryDirectory(f".{partial}", dir=place.parent, ignore_cleanup_errors=True) as folder:
        rows, left_out = copy_columns(
            files, key=column, texts=names, url=by == "key", folder=folder
        )
        known = chain.from_iterable(map(pa.Array.to_pylist, rows.column(column).chunks))
        by_row = value_hashes(chain([None], known))  # row 0 is none
        del known
        keys, firsts = np.unique(by_row, return_index=True)
        places = _look_up_rows(hashes(by), keys, firsts)
        _check_share(places, store, table, rows)
        if by == "key":
            _check_urls(places, hashes("url"), table, rows)
        digest = _write_texts(places, rows.select(names), place)
        del rows
    return {
        "pairs": len(places),
        "with_row": int(np.count_nonzero(places)),
        "repeated_rows": int(np.count_nonzero(by_row) - np.count_nonzero(keys)),
        "broken_rows": left_out,
        "digest": digest,
    }


def _check_share(places: NDArray[np.int64], store: Store, table: Captions, rows: pa.Table) -> None:
    """Check that most pairs have a row.

    Raises:
        ValueError: they have not; shows values of both sides.
    """
    joined = int(np.count_nonzero(places))
    if joined < LEAST_JOINED * len(places):
        by, column = _join_names(table)
        ours = [*islice(store.join_values(by), 3)]
        raise ValueError(
            f"data.captions.root={table.root}: has a row for {joined:,} of {len(places):,} pairs, "
            f"less than half; {by} is {ours} in the pairs and {column} "
            f"{rows.column(column)[:3].to_pylist()} in the table; choose another data.captions.by"
        )


def _check_urls(
    places: NDArray[np.int64], urls: NDArray[np.uint64], table: Captions, rows: pa.Table
) -> None:
    """Check that pairs, joined by ``key``, have the URL of their row.

    Raises:
        ValueError: many have another one.
    """
    some = np.flatnonzero((places > 0) & (urls > 0))[:COMPARED]
    found = value_hashes(rows.column("url")[row - 1].as_py() for row in places[some].tolist())
    same, both = np.count_nonzero(found == urls[some]), np.count_nonzero(found)
    if same < LEAST_SAME * both:
        raise ValueError(
            f"data.captions.by=key: {same:,} of {both:,} pairs have the url of their row: "
            f"{table.root} is of another crawl; choose data.captions.by=url"
        )


def _write_texts(places: NDArray[np.int64], texts: pa.Table, file: Path) -> str:
    """Write the texts of rows, null for row 0, in the order of the pairs.  Returns the digest."""
    digest = hashlib.sha256()
    with replacing(file) as whole, pa.ipc.new_stream(str(whole), texts.schema) as stream:
        for start in range(0, len(places), GATHERED):
            some = places[start : start + GATHERED]
            columns = [_gather(column, some) for column in texts.columns]
            gathered = pa.record_batch(columns, texts.schema)
            for first in range(0, len(some), CHUNK):
                chunk = gathered.slice(first, CHUNK)
                digest.update(repr([*map(pa.Array.to_pylist, chunk.columns)]).encode())
                stream.write_batch(chunk)
    return digest.hexdigest()[:32]
