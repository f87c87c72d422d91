"""Tars as a source: shards in webdataset's layout, as img2dataset writes them, read at any place by their indices.

``data.root`` names them as ``shards.expand`` says: ``cc12m-train-{0000..1242}.tar``, a folder, a list; here or behind a URL. A sample is an
image and ``.txt``, ``.json`` or both under one key.
"""

import errno
import hashlib
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from data_modules.batches import GOOD
from data_modules.corpora.bad_samples import REASONS, BadSample
from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.shards import OPEN_FILES, Range, Shard, ShardReader, expand, look_up
from data_modules.corpora.stored_pairs import Stored, StoredPairs
from data_modules.corpora.tar_index import BLOCK, IndexHeader, TarIndex, index_places, index_tar, read_header
from data_modules.corpora.unpacking import COMPRESSED, unpacked

SUFFIXES = (".tar", *COMPRESSED)
LOOKERS = 16
"""Threads that ask for the state of shards."""

LOOKED_INTO = 16
"""Samples in which a caption's column is looked for before a run begins."""


class TarStore:
    """Stored pairs of tars in their order; their indices are mapped, and few shards are open at a time."""

    def __init__(
        self, shards: Sequence[Shard], headers: Sequence[IndexHeader], *, cache: Path, column: str | None, wrong: dict[str, list[str]]
    ) -> None:
        """Take the tars and the headers of their indices.

        Args:
            shards: in order.
            headers: of each.
            cache: where indices are that are not beside their tar.
            column: ``txt``, or the key of the ``.json`` that holds captions; None for ``.txt`` and, where there is none, ``caption``.
            wrong: shards that are missing, empty or truncated, by these words.
        """
        self._shards = list(shards)
        self._headers = list(headers)
        self._cache = cache
        self._column = column
        self._lengths = np.asarray([header.samples for header in headers], dtype=np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._wrong = wrong
        self._reader = ShardReader()
        self._indices: OrderedDict[int, TarIndex] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Mapped indices stay in their process."""
        return {**self.__dict__, "_indices": OrderedDict()}

    def __len__(self) -> int:
        """Number of pairs, bad ones included."""
        return int(self._lengths.sum())

    def blocks(self) -> list[int]:
        """Pairs of each tar."""
        lengths: list[int] = self._lengths.tolist()
        return lengths

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the tars' names and what they hold, wherever they lie."""
        parts = "".join(f"{shard.name}\0{header.digest}\0" for shard, header in zip(self._shards, self._headers, strict=True))
        return hashlib.sha256(parts.encode()).hexdigest()[:16]

    def about(self) -> dict[str, Any]:
        """How many shards are missing, empty or cut short, and the first of each."""
        return {f"{what}_shards": {"count": len(urls), "first": urls[0]} for what, urls in self._wrong.items() if urls}

    def stored(self, index: int) -> Stored:
        """The bytes of a pair.

        Raises:
            BadSample: the index knows that it is bad, or the disk cannot read it.
            ValueError: a tar, or its index, cannot be reached any more.
        """
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        shard, row = self._shards[number], index - int(self._starts[number])
        found = self._index(number)
        record, key = found.records[row], found.key(row)
        if record["reason"] != GOOD:
            raise BadSample(REASONS[record["reason"]], where=shard.url, key=key)
        ranges = {part: _range(record, part) for part in self._parts(record)}
        content = dict(zip(ranges, self._read(shard, list(ranges.values()), key=key), strict=True))
        return Stored(shard.url, key, content["image"], self._captions(content, where=shard.url, key=key))

    def check_column(self) -> None:
        """Refuse a column that none of the first samples has, ``LOOKED_INTO`` of them.

        Raises:
            ValueError: there is none.
        """
        readable = 0
        for index in range(min(LOOKED_INTO, len(self)) if self._column is not None else 0):
            try:
                if self.stored(index).captions is not None:
                    return
                readable += 1
            except BadSample:
                continue
        if readable:
            what = "a .txt" if self._column == "txt" else f"the key {self._column} in its .json"
            raise ValueError(
                f"data.caption={self._column}: none of the first {readable} samples, from {self._shards[0].url} on, has {what}"
            )

    def _parts(self, record: np.void) -> list[str]:
        """What of a sample is read: the image, and what holds the caption."""
        wanted = "json" if self._column not in (None, "txt") or (self._column is None and not record["text"]) else "text"
        return ["image", wanted] if record[wanted] else ["image"]

    def _captions(self, content: dict[str, bytes], *, where: str, key: str) -> object:
        if "text" in content or "json" not in content:
            return content.get("text")
        try:
            fields = json.loads(content["json"])
        except ValueError as error:
            raise BadSample("caption_encoding", where=where, key=key, detail=f"its .json: {error}") from error
        return fields.get(self._column or "caption") if isinstance(fields, dict) else None

    def _read(self, shard: Shard, ranges: list[Range], *, key: str) -> list[bytes]:
        try:
            content = self._reader.read(shard, ranges)
        except OSError as error:
            if error.errno != errno.EIO:  # the network's or the system's fault, not the sample's
                raise ValueError(f"{shard.url} cannot be read now: {error}; the run goes on with resume=last") from error
            raise BadSample("unreadable", where=shard.url, key=key, detail=str(error)) from error
        if any(len(part) < size for part, (_, size) in zip(content, ranges, strict=True)):
            raise BadSample("truncated_shard", where=shard.url, key=key)
        return content

    def _index(self, number: int) -> TarIndex:
        if number in self._indices:
            self._indices.move_to_end(number)
            return self._indices[number]
        if len(self._indices) >= OPEN_FILES:
            self._indices.popitem(last=False)
        shard, header = self._shards[number], self._headers[number]
        path = next((path for path in index_places(shard, cache=self._cache) if read_header(path, shard) == header), None)
        if path is None:
            raise ValueError(f"the index of {shard.url} was there when the run began and is gone; start again")
        self._indices[number] = TarIndex(path, samples=header.samples)
        return self._indices[number]


def _range(record: np.void, part: str) -> Range:
    return int(record[part]) * BLOCK, int(record[f"{part}_size"])


def open_here(
    *,
    root: str | None,
    size: int,
    seed: int,
    limit: int | None,
    captions: CaptionRule = ANY_CAPTION,
    cache: str | None = None,
    cache_gib: float = 50.0,
    max_bad_share: float = 0.1,
) -> StoredPairs:
    """Open tars; indices that are missing are made first, by all cores.

    Args:
        root: which tars, as ``shards.expand``.
        size: side of the images, pixels.
        seed: of every random draw.
        limit: use the first so many pairs.
        captions: which text is the caption; its column is ``txt`` or a key of the ``.json``.
        cache: folder for indices that cannot lie beside their tar, and for unpacked tars; None for ``~/.cache/gestalt``.
        cache_gib: most GiB of unpacked tars there.
        max_bad_share: largest share of shards that may be missing or empty.

    Raises:
        ValueError: no root, no such shard, a file that is no tar, or too many that are missing or empty.
    """
    if root is None:
        raise ValueError("tars need data.root, such as data.root='cc12m-train-{0000..1242}.tar', a folder or a .txt with one a line")
    urls = expand(root, suffixes=SUFFIXES)
    folder = Path(cache) if cache is not None else Path.home() / ".cache" / "gestalt"
    if not urls:
        raise ValueError(f"data.root={root}: names no tar")
    with ThreadPoolExecutor(LOOKERS) as pool:
        looked_up = list(pool.map(look_up, urls))
    missing = [url for url, shard in zip(urls, looked_up, strict=True) if shard is None]
    _judge(missing, urls=urls, what="missing", max_bad_share=max_bad_share)
    present = [shard for shard in looked_up if shard is not None]
    compressed = [shard.url for shard in present if shard.url.endswith(COMPRESSED)]
    if compressed:
        _say(f"tars: {len(compressed)} compressed ones are unpacked once, into {folder / 'unpacked'}, at most {cache_gib} GiB")
    shards = [unpacked(shard, cache=folder, limit=int(cache_gib * 2**30)) if shard.url in compressed else shard for shard in present]
    headers = read_indices(shards, cache=folder)
    empty = [shard.url for shard, header in zip(shards, headers, strict=True) if header.samples == 0]
    _judge(missing + empty, urls=urls, what="missing or without a sample (NAME.jpg, NAME.txt or NAME.json)", max_bad_share=max_bad_share)
    cut = [shard.url for shard, header in zip(shards, headers, strict=True) if header.truncated]
    wrong = {"missing": missing, "empty": empty, "truncated": cut}
    store = TarStore(shards, headers, cache=folder, column=captions.column, wrong=wrong)
    store.check_column()
    return StoredPairs(store, size=size, seed=seed, rule=captions, limit=limit)


def read_indices(shards: Sequence[Shard], *, cache: Path) -> list[IndexHeader]:
    """The header of each tar's index; those that are missing are made first, by all cores.

    Raises:
        ValueError: a file that is no tar.
    """
    with ThreadPoolExecutor(LOOKERS) as pool:
        found = list(pool.map(lambda shard: _header(shard, cache), shards))
    lacking = [number for number, header in enumerate(found) if header is None]
    if lacking:
        first = os.getpid() % len(lacking)  # ranks that start together begin at different tars, and none makes what is there
        _make([shards[number] for number in lacking[first:] + lacking[:first]], cache=cache)
    for number in lacking:
        found[number] = _header(shards[number], cache)
    return [header for header in found if header is not None]


def _make(shards: list[Shard], *, cache: Path) -> None:
    _say(f"tars: making the index of {len(shards):,}, once; a tar of 10,000 pairs takes a core about two seconds")
    workers = min(len(shards) // 4, os.cpu_count() or 1, LOOKERS)
    if workers < 2:
        for shard in shards:
            index_tar(shard, cache=cache)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(partial(index_tar, cache=cache), shards, chunksize=4), start=1):
            if done % max(1, len(shards) // 10) == 0:
                _say(f"tars: {done:,} of {len(shards):,} have an index")


def _header(shard: Shard, cache: Path) -> IndexHeader | None:
    return next((header for path in index_places(shard, cache=cache) if (header := read_header(path, shard)) is not None), None)


def _judge(bad: list[str], *, urls: list[str], what: str, max_bad_share: float) -> None:
    if len(bad) == len(urls) or len(bad) > max_bad_share * len(urls):
        raise ValueError(
            f"data.root: {len(bad)} of {len(urls)} tars are {what}, the first is {bad[0]}; data.max_bad_share is {max_bad_share}"
        )


@rank_zero_only
def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
