"""Tars in webdataset's layout, as img2dataset writes them.  Each tar is a shard, and an index gives
access to any sample.

A sample is an image with ``.txt``, ``.json`` or both under one key.
"""

import errno
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.lru_cache import LRUCache
from gestalt.data_modules.corpora.shard_names import COMPRESSED, expand, unread
from gestalt.data_modules.corpora.shards import (
    OPEN_FILES,
    THREADS,
    Range,
    Shard,
    ShardReader,
    cache_folder,
    look_up,
)
from gestalt.data_modules.corpora.stores import ShardedStore, value_hashes
from gestalt.data_modules.corpora.tar_files import MAX_TEXT, TAR_BLOCK, VALUES, unpack_tar
from gestalt.data_modules.corpora.tar_index import Header, TarIndex, find_index, index_tar
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import (
    GOOD,
    REASONS,
    BadSample,
    bad_sample_at,
)
from gestalt.data_modules.pixels.photographs import BYTE_LIMIT
from gestalt.support.files import short_digest
from gestalt.support.process import tell
from gestalt.support.typed import NotThere

EMPTY = "missing or without a sample (NAME.jpg, NAME.txt or NAME.json)"
CHECKED = 16
"""Number of samples that are searched for the caption column before a run begins."""


@dataclass(eq=False)
class TarStore(ShardedStore):
    """Pairs of several tars, in order; indices are mapped into memory, and few shards are open at a
    time.

    Attributes:
        tars: each with the header of its index.
        cache: folder of the indices.
        column: ``txt``, or the key of the ``.json`` with the captions; None for ``.txt``, else the
            key ``caption``.
        faulty: URLs of the ``missing``, ``empty`` and ``truncated`` shards, and of those ``unread``
            beside them whose names differ only in the number.
    """

    tars: list[tuple[Shard, Header]]
    cache: Path
    column: str | None
    faulty: dict[str, list[str]]

    digest_has_values = True

    def __post_init__(self) -> None:
        super().__init__([header["samples"] for _, header in self.tars])
        self._reader = ShardReader()
        self._indices: LRUCache[TarIndex] = LRUCache(OPEN_FILES)

    def digest(self) -> str:
        """Return the digest of the tars' names, of their indices, and of all bytes of captions."""
        return short_digest(
            "".join(
                f"{shard.name}\0{header['digest']}\0{header['captions']}\0"
                for shard, header in self.tars
            )
        )

    def about(self) -> dict[str, Any]:
        """Return the number of each kind of ``faulty`` shards, and the first of each."""
        return {
            f"{fault}_shards": {"count": len(urls), "first": urls[0]}
            for fault, urls in self.faulty.items()
            if urls
        }

    def read(self, index: int) -> StoredPair:
        """Read a pair.

        Raises:
            BadSample: the index marks it as bad, or the disk cannot read it.
            ValueError: a tar or its index has become unreachable.
        """
        number, row = self.place(index)
        shard, _ = self.tars[number]
        tar_index = self._indices.get(number, lambda: (self._open_index(number), 1))
        record, key = tar_index.records[row], tar_index.key(row)
        with bad_sample_at(shard.url, key):
            if record["reason"] != GOOD:
                raise BadSample(REASONS[record["reason"]])
            json_first = not record["text"] if self.column is None else self.column != "txt"
            ranges = []
            for part, limit, reason in (
                ("image", BYTE_LIMIT, "too_large"),
                ("json" if json_first else "text", MAX_TEXT, "caption_too_long"),
            ):
                size = int(record[f"{part}_size"])
                if size > limit:
                    raise BadSample(reason, f"{part} of {size:,} bytes")
                if record[part]:
                    ranges.append((int(record[part]) * TAR_BLOCK, size))
            image, *captions = self._read(shard, ranges)
            text: object = captions[0] if captions else None
            if json_first and captions:
                try:
                    fields = json.loads(captions[0])
                except (ValueError, RecursionError) as error:
                    raise BadSample("caption_encoding", f"its .json: {error}") from error
                text = fields.get(self.column or "caption") if isinstance(fields, dict) else None
            return StoredPair(shard.url, key, image, text)

    def join_values(self, name: str) -> Iterator[Any]:
        """Yield the keys of the samples, or the values in their ``.json``; None for bad ones."""
        store = replace(self, column=name)
        for index in range(len(self)):
            value = None
            with suppress(BadSample):
                stored = store.read(index)
                value = stored.key if name == "key" else stored.captions
            yield value

    def join_hashes(self, name: str) -> NDArray[np.uint64]:
        """Return the hashes of the keys, or those of the ``VALUES`` in the indices.

        Raises:
            ValueError: another name.
        """
        if name not in ("key", *VALUES):
            raise ValueError(
                f"data.captions.by={name}: tars have key, {', '.join(VALUES)}; choose one of them"
            )
        indices = map(self._open_index, range(len(self.tars)))
        if name in VALUES:
            return np.concatenate([index.records[name] for index in indices])
        keys = [map(index.key, range(len(index.records))) for index in indices]
        return value_hashes(chain.from_iterable(keys))

    def check_column(self) -> None:
        """Check that one of the first ``CHECKED`` samples has the caption column.

        Raises:
            ValueError: none has it.
        """
        readable = 0
        for index in range(min(CHECKED, len(self)) if self.column is not None else 0):
            try:
                if self.read(index).captions is not None:
                    return
                readable += 1
            except BadSample:
                continue
        if readable:
            missing = "a .txt" if self.column == "txt" else f"the key {self.column} in its .json"
            raise ValueError(
                f"data.caption={self.column}: none of the first {readable} samples, from "
                f"{self.tars[0][0].url} on, has {missing}"
            )

    def _read(self, shard: Shard, ranges: list[Range]) -> list[bytes]:
        try:
            content = self._reader.read(shard, ranges)
        except OSError as error:
            if error.errno != errno.EIO:  # the network or the system failed, not the sample
                raise ValueError(
                    f"{shard.url} cannot be read now: {error}; continue the run with resume=last"
                ) from error
            raise BadSample("unreadable", str(error)) from error
        if any(len(part) < size for part, (_, size) in zip(content, ranges, strict=True)):
            raise BadSample("truncated_shard")
        return content

    def _open_index(self, number: int) -> TarIndex:
        shard, header = self.tars[number]
        present = find_index(shard, self.cache)
        if present is None or present[1] != header:
            raise ValueError(
                f"the index of {shard.url} has disappeared since the run began; restart the run"
            )
        return TarIndex(present[0], samples=header["samples"])


def open_here(
    *,
    root: str | None,
    captions: CaptionRule,
    cache: str | None = None,
    max_bad_share: float = 0.1,
) -> TarStore:
    """Open tars, making missing indices first.

    Args:
        root: pattern of the tars: files, braces, a folder, a glob, or a ``.txt`` of these.
        captions: selects the caption; its column is ``txt`` or a key of the ``.json``.
        cache: folder for indices and unpacked tars; None for ``cache_home``.
        max_bad_share: largest share of missing or empty shards, [0, 1].

    Raises:
        ValueError: no root, no shard, a file that is not a tar, or too many missing or empty
            shards.
    """
    urls = expand(root)
    with ThreadPoolExecutor(THREADS) as pool:
        shards = dict(zip(urls, pool.map(look_up, urls), strict=True))
    missing = [url for url, shard in shards.items() if shard is None]
    _check_share(missing, urls, fault="missing", max_bad_share=max_bad_share)
    folder = cache_folder(cache)
    found = [shard for shard in shards.values() if shard is not None]
    if compressed := sum(shard.name.endswith(COMPRESSED) for shard in found):
        tell(f"tars: {compressed:,} compressed tars are unpacked, once, into {folder}/unpacked")
    tars = _index([unpack_tar(shard, cache=folder) for shard in found], cache=folder)
    empty = [shard.url for shard, header in tars if not header["samples"]]
    _check_share(missing + empty, urls, fault=EMPTY, max_bad_share=max_bad_share)
    truncated = [shard.url for shard, header in tars if header["truncated"]]
    faulty = {
        "missing": missing,
        "empty": empty,
        "truncated": truncated,
        "unread": unread(urls),
    }
    store = TarStore(tars, folder, captions.column, faulty)
    store.check_column()
    return store


def _check_share(bad: list[str], urls: list[str], fault: str, max_bad_share: float) -> None:
    if len(bad) == len(urls) or len(bad) > max_bad_share * len(urls):
        kind = NotThere if fault == "missing" else ValueError
        message = (
            f"data.root: {len(bad)} of {len(urls)} tars are {fault}, the first is {bad[0]}; "
            "correct data.root"
        )
        if len(bad) < len(urls):
            message += f", or raise data.max_bad_share={max_bad_share}"
        raise kind(message)


def _index(shards: list[Shard], cache: Path) -> list[tuple[Shard, Header]]:
    """Return each tar with the header of its index; missing indices are made first, on all
    cores.
    """
    find, make = partial(find_index, cache=cache), partial(index_tar, cache=cache)
    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(shards, pool.map(find, shards), strict=True))
    lacking = [shard for shard in shards if found[shard] is None]
    if lacking:
        tell(
            f"tars: indexing {len(lacking):,} tars, once; 10,000 pairs take one core about two "
            "seconds"
        )
        first = os.getpid() % len(lacking)  # ranks that start together begin at different tars
        lacking = lacking[first:] + lacking[:first]
    if len(lacking) < 8:
        found |= zip(lacking, map(make, lacking), strict=True)
    else:
        with ProcessPoolExecutor(
            min(os.cpu_count() or 1, THREADS), mp_context=get_context("spawn")
        ) as processes:
            found |= zip(lacking, processes.map(make, lacking, chunksize=4), strict=True)
    return [(shard, entry[1]) for shard, entry in found.items() if entry is not None]
