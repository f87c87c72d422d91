"""Inspection: look at every sample of a source once.  What was found becomes its manifest.

Every image is decoded whole and every caption is read. A sample is bad where the image is, or where none of the captions that may be drawn
for it can be used.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import clean_caption, listed_texts
from data_modules.corpora.stored_pairs import StoredPairs
from data_modules.pixels.decoding import shown_size
from data_modules.pixels.photographs import Undecodable
from data_modules.sources import Source, Stored

BATCH = 32  # samples that a process looks at before it tells

Progress = Callable[[Iterator[Any], int], Iterator[Any]]
"""Passes on an iterator, of so many things, and may show how far it is."""


class Look(NamedTuple):
    """What was found of one sample.

    Attributes:
        bad: reason, where and key; None for a good one.
        place: where and key.
        size: width, height, bytes; empty for a bad one.
        image: SHA-256 of its bytes, as far as they could be had.
        captions: for each that can be used, characters, words, and SHA-256.
        unusable: number of captions that cannot.
    """

    bad: tuple[str, str, str] | None
    place: tuple[str, str]
    size: tuple[int, ...]
    image: bytes
    captions: list[tuple[int, int, bytes]]
    unusable: int


class Looks(Dataset[Look]):
    """A source's samples as they are looked at."""

    def __init__(self, source: Source) -> None:
        """Take the source."""
        self._source = source

    def __len__(self) -> int:
        """Number of samples, bad ones included."""
        return len(self._source)

    def __getitem__(self, index: int) -> Look:
        """Look at one."""
        try:
            return _stored_look(self._source, index) if isinstance(self._source, StoredPairs) else _drawn_look(self._source, index)
        except BadSample as bad:
            return Look((bad.reason, bad.where, bad.key), (bad.where, bad.key), (), b"", [], 0)


def _stored_look(source: StoredPairs, index: int) -> Look:
    found = source.stored(index)
    place, hashed = (found.where, found.key), hashlib.sha256(found.image).digest()
    try:
        width, height = shown_size(found.image)
        captions, unusable = _captions(found, first_only=source.rule.choice == "first")
    except (Undecodable, BadSample) as bad:
        return Look((bad.reason, *place), place, (), hashed, [], 0)
    return Look(None, place, (width, height, len(found.image)), hashed, captions, unusable)


def _captions(found: Stored, *, first_only: bool) -> tuple[list[tuple[int, int, bytes]], int]:
    """Those that can be used, and the number of others; raises ``BadSample`` for the first where there are none."""
    usable, refused = [], []
    for text in listed_texts(found.captions)[: 1 if first_only else None]:
        try:
            clean = clean_caption(text, where=found.where, key=found.key)
        except BadSample as bad:
            refused.append(bad)
        else:
            usable.append(_measured(clean))
    if not usable:
        raise refused[0] if refused else BadSample("missing_caption", where=found.where, key=found.key)
    return usable, len(refused)


def _drawn_look(source: Source, index: int) -> Look:
    """Of a source that has no files: what it draws in the first epoch."""
    image, caption = source.pair(index, 0)
    content = image.numpy().tobytes()
    size = (image.shape[2], image.shape[1], len(content))
    return Look(None, ("", str(index)), size, hashlib.sha256(content).digest(), [_measured(caption)], 0)


def _measured(caption: str) -> tuple[int, int, bytes]:
    return len(caption), len(caption.split()), hashlib.sha256(caption.encode()).digest()


class Inspection:
    """Counts what is looked at; of each sample it keeps some numbers, so that eleven million fit into memory."""

    def __init__(self, source: Source) -> None:
        """Take the source.

        Raises:
            ValueError: a mixture, whose samples are those of its sources.
        """
        if source.orders_itself:
            raise ValueError("a mixture has no samples of its own: inspect its sources one by one")
        self._source = source
        self._sizes = array("Q")
        self._lengths = array("L")
        self._images, self._texts = array("Q"), array("Q")  # the first half of each hash's half: collisions are one in millions
        self._owners = array("Q")  # the sample of each caption
        self._unusable = 0
        self._shards: list[dict[str, Any]] = []
        self.bad: list[tuple[int, str, str, str]] = []

    def run(self, *, workers: int, progress: Progress) -> "Inspection":
        """Look at all samples, in order, by so many processes beside this one.  Returns itself."""
        loader = DataLoader(Looks(self._source), batch_size=BATCH, num_workers=workers, collate_fn=list)
        ends = list(accumulate(self._source.blocks()))
        shard, hashed, place = 0, hashlib.sha256(), ""
        looks = (look for batch in loader for look in batch)
        for index, look in enumerate(progress(looks, len(self._source))):
            self._count(index, look)
            hashed.update(look.image + b"".join(caption[2] for caption in look.captions))
            place = place or look.place[0]
            while shard < len(ends) and index + 1 >= ends[shard]:
                start = ends[shard - 1] if shard else 0
                self._shards.append(_shard(place, samples=ends[shard] - start, content=hashed.hexdigest()))
                shard, hashed, place = shard + 1, hashlib.sha256(), ""
        return self

    def _count(self, index: int, look: Look) -> None:
        if look.bad is not None:
            self.bad.append((index, *look.bad))
            return
        self._sizes.extend(look.size)
        self._images.append(_short(look.image))
        for characters, words, hashed in look.captions:
            self._lengths.extend((characters, words))
            self._texts.append(_short(hashed))
            self._owners.append(index)
        self._unusable += look.unusable

    def counted(self) -> dict[str, Any]:
        """All that was counted, for the manifest."""
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
        """Number of bad samples by reason, most frequent first, with the first of each."""
        first = {reason: {"index": index, "where": where, "key": key} for index, reason, where, key in reversed(self.bad)}
        counts = Counter(reason for _, reason, _, _ in self.bad)
        return {reason: {"count": count, "first": first[reason]} for reason, count in counts.most_common()}


def _short(hashed: bytes) -> int:
    return int.from_bytes(hashed[:8], "big")


def _shard(place: str, *, samples: int, content: str) -> dict[str, Any]:
    """A shard's SHA-256: of its file where it is one here, and of its samples' images and captions anywhere."""
    shard: dict[str, Any] = {"where": place, "samples": samples, "content_sha256": content}
    if Path(place).is_file():
        with Path(place).open("rb") as file:
            shard["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return shard


def _spread(values: "np.ndarray[Any, np.dtype[np.int64]]") -> dict[str, int]:
    """Least, 5 %, half, 95 % and most; empty where there are none."""
    if not len(values):
        return {}
    found = np.percentile(values, [0, 5, 50, 95, 100], method="nearest")
    return dict(zip(("least", "5%", "median", "95%", "most"), map(int, found), strict=True))


def _repeated(hashes: "np.ndarray[Any, np.dtype[np.uint64]]", owners: "np.ndarray[Any, np.dtype[np.int64]]") -> dict[str, Any]:
    """How many things are the same as an earlier one, how many there are of the commonest, and the indices of its first two samples."""
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    repeats = int(len(hashes) - len(counts))
    if not repeats:
        return {"repeats": 0}
    commonest = int(np.lexsort((first, -counts))[0])
    samples = owners[np.flatnonzero(hashes == hashes[first[commonest]])[:2]]
    return {"repeats": repeats, "commonest": {"count": int(counts[commonest]), "samples": samples.tolist()}}
