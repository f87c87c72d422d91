"""Inspect every sample of a source, to write its manifest.

Every image is decoded whole and every caption is read.  A sample is bad if its image is, or if none of the captions that training may draw
is usable.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import ANY_CAPTION, clean_caption, listed_texts
from data_modules.corpora.stored_pairs import StoredPairs
from data_modules.pixels.decoding import shown_size
from data_modules.pixels.photographs import Undecodable
from data_modules.sources import Source, Stored
from gestalt.support.files import file_hash

BATCH = 32  # number of samples that a process examines before it reports them

Progress = Callable[[Iterator[Any], int], Iterator[Any]]
"""Wraps an iterator of known length, for example to show a progress bar."""


class Finding(NamedTuple):
    """Result of the examination of one sample.

    Attributes:
        bad: reason, where and key; None for a good sample.
        where: its shard, file or folder; empty for a sample that is drawn.
        size: width, height, bytes; empty for a bad sample.
        image: SHA-256 of the image's bytes; empty if they cannot be read.
        captions: number of characters, number of words and SHA-256 of each usable caption.
        unusable: number of unusable captions.
    """

    bad: tuple[str, str, str] | None
    where: str
    size: tuple[int, ...] = ()
    image: bytes = b""
    captions: Sequence[tuple[int, int, bytes]] = ()
    unusable: int = 0


class Findings(Dataset[Finding]):
    """Findings for all samples of a source, by index."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._rule = source.rule if isinstance(source, StoredPairs) else ANY_CAPTION

    def __len__(self) -> int:
        """Return the number of samples, bad ones included."""
        return len(self._source)

    def __getitem__(self, index: int) -> Finding:
        """Examine one sample; of a source without files, the pair of the first epoch."""
        where, image = "", b""
        try:
            stored, drawn = self._source.stored(index), None
            if stored is None:
                drawn, caption = self._source.pair(index, 0)
                stored = Stored("", str(index), drawn.numpy().tobytes(), caption)
            where, image = stored.where, hashlib.sha256(stored.image).digest()
            width, height = _shown_size(stored) if drawn is None else (drawn.shape[2], drawn.shape[1])
            captions, unusable = self._captions(stored)
        except BadSample as bad:
            return Finding((bad.reason, bad.where, bad.key), where or bad.where, image=image)
        return Finding(None, where, (width, height, len(stored.image)), image, captions, unusable)

    def _captions(self, stored: Stored) -> tuple[list[tuple[int, int, bytes]], int]:
        """Return the usable captions and the number of unusable ones.

        Raises:
            BadSample: no caption is usable; has the reason of the first.
        """
        usable, refused = [], []
        for text in listed_texts(stored.captions)[: 1 if self._rule.choice == "first" else None]:
            try:
                clean = clean_caption(text, where=stored.where, key=stored.key)
                usable.append((len(clean), len(clean.split()), hashlib.sha256(clean.encode()).digest()))
            except BadSample as bad:
                refused.append(bad)
        if not usable:
            raise refused[0] if refused else BadSample("missing_caption", where=stored.where, key=stored.key)
        return usable, len(refused)


def _shown_size(stored: Stored) -> tuple[int, int]:
    try:
        return shown_size(stored.image)
    except Undecodable as error:
        raise BadSample(error.reason, where=stored.where, key=stored.key) from error


class Inspection:
    """Statistics of a source's samples: a few numbers are kept of each, so that eleven million samples fit into memory."""

    def __init__(self, source: Source) -> None:
        """Take the source.

        Raises:
            ValueError: the source is a mixture, whose indices mean other samples in each epoch.
        """
        if source.orders_itself:
            raise ValueError("a mixture cannot be inspected: inspect each of its sources")
        self._source = source
        self._sizes = array("Q")
        self._lengths = array("L")
        self._images, self._texts = array("Q"), array("Q")  # 64 bits of each hash: collisions are rare
        self._owners = array("Q")  # index of each caption's sample
        self._unusable = 0
        self._shards: list[dict[str, Any]] = []
        self.bad: list[tuple[int, str, str, str]] = []

    def run(self, *, workers: int, progress: Progress) -> "Inspection":
        """Examine all samples in order, with ``workers`` further processes.  Returns itself."""
        loader = DataLoader(Findings(self._source), batch_size=BATCH, num_workers=workers, collate_fn=list)
        ends = list(accumulate(self._source.blocks()))
        shard, content, place = 0, hashlib.sha256(), ""
        findings = (finding for batch in loader for finding in batch)
        for index, finding in enumerate(progress(findings, len(self._source))):
            self._count(index, finding)
            content.update(finding.image + b"".join(caption[2] for caption in finding.captions))
            place = place or finding.where
            while shard < len(ends) and index + 1 >= ends[shard]:
                start = ends[shard - 1] if shard else 0
                self._shards.append(_shard(place, samples=ends[shard] - start, content=content.hexdigest()))
                shard, content, place = shard + 1, hashlib.sha256(), ""
        return self

    def _count(self, index: int, finding: Finding) -> None:
        if finding.bad is not None:
            self.bad.append((index, *finding.bad))
            return
        self._sizes.extend(finding.size)
        self._images.append(_short(finding.image))
        for characters, words, text_hash in finding.captions:
            self._lengths.extend((characters, words))
            self._texts.append(_short(text_hash))
            self._owners.append(index)
        self._unusable += finding.unusable

    def counted(self) -> dict[str, Any]:
        """Return all counts, for the manifest."""
        sizes = np.array(self._sizes, dtype=np.int64).reshape(-1, 3)
        lengths = np.array(self._lengths, dtype=np.int64).reshape(-1, 2)
        good = np.setdiff1d(np.arange(len(self._source)), [index for index, *_ in self.bad])
        return {
            "bad_by_reason": self.by_reason(),
            "images": {name: _spread(sizes[:, column]) for column, name in enumerate(("width", "height", "bytes"))},
            "captions": {
                "usable": len(lengths),
                "unusable_beside_usable": self._unusable,
                **{name: _spread(lengths[:, column]) for column, name in enumerate(("characters", "words"))},
            },
            "duplicates": {
                "images": _repeated(np.array(self._images, dtype=np.uint64), good),
                "captions": _repeated(np.array(self._texts, dtype=np.uint64), np.array(self._owners, dtype=np.int64)),
            },
            "shards": self._shards,
        }

    def by_reason(self) -> dict[str, dict[str, Any]]:
        """Return the number of bad samples and the first one for each reason, the most frequent reason first."""
        first = {reason: {"index": index, "where": where, "key": key} for index, reason, where, key in reversed(self.bad)}
        counts = Counter(reason for _, reason, _, _ in self.bad)
        return {reason: {"count": count, "first": first[reason]} for reason, count in counts.most_common()}


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")


def _shard(place: str, *, samples: int, content: str) -> dict[str, Any]:
    """Return a shard's entry with the SHA-256 of its images and captions and, for a local file, of the file."""
    shard: dict[str, Any] = {"where": place, "samples": samples, "content_sha256": content}
    if Path(place).is_file():
        shard["sha256"] = file_hash(Path(place))
    return shard


def _spread(values: "np.ndarray[Any, np.dtype[np.int64]]") -> dict[str, int]:
    """Return minimum, 5 %, median, 95 % and maximum; empty without values."""
    if not len(values):
        return {}
    percentiles = np.percentile(values, [0, 5, 50, 95, 100], method="nearest")
    return dict(zip(("least", "5%", "median", "95%", "most"), map(int, percentiles), strict=True))


def _repeated(hashes: "np.ndarray[Any, np.dtype[np.uint64]]", owners: "np.ndarray[Any, np.dtype[np.int64]]") -> dict[str, Any]:
    """Return the number of values equal to an earlier one; of the commonest value, the count and its first two samples."""
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    repeats = int(len(hashes) - len(counts))
    if not repeats:
        return {"repeats": 0}
    commonest = int(np.lexsort((first, -counts))[0])
    samples = owners[np.flatnonzero(hashes == hashes[first[commonest]])[:2]]
    return {"repeats": repeats, "commonest": {"count": int(counts[commonest]), "samples": samples.tolist()}}
