"""Samples that training leaves out: the bad ones in a manifest of ``gestalt data inspect``, and
those that a list of DataComp's does not include.

A manifest is JSON with ``format``; ``source_digest`` and ``samples`` of the inspected source;
``bad``, a list of [index, reason, where, key]; and further counts.  The SHA-256 of either file
enters the digest of the filtered source, and thereby checkpoints and results.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.pairs import Key, Relocated, Source
from gestalt.data_modules.pixels.bad_samples import REASONS, BadSample
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.files import (
    Fields,
    check_regular,
    file_hash,
    read_json,
    replacing,
    short_digest,
    uid_hash,
)

FORMAT = 1
MAX_BYTES = 2**30
"""Largest manifest that is read, of some million bad samples."""

Bad = tuple[int, str, str, str]
"""Index in the source, reason, where, key."""


def write_manifest(path: Path, source: Source, bad: Sequence[Bad], counted: Fields) -> str:
    """Write a manifest atomically.  Returns the file's SHA-256.

    Args:
        path: JSON file to write.
        source: the whole inspected source.
        bad: its bad samples.
        counted: further counts.
    """
    manifest = {
        "format": FORMAT,
        "source_digest": source.digest(),
        "samples": len(source),
        "bad": sorted(bad),
        **counted,
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(change_texts(manifest, without_secrets), indent=1) + "\n")
        return file_hash(partial)


class LeftOut(Relocated):
    """A source without some of its samples; the others keep their shard and their order.

    Args:
        source: the whole source.
        left_out: their indices in it, ascending.
        path: file that they follow from.
        kind: ``manifest`` or ``include``.
        facts: further facts of the file.
    """

    def __init__(
        self,
        source: Source,
        left_out: ArrayLike,
        path: Path,
        *,
        kind: str,
        facts: Fields | None = None,
    ) -> None:
        self._source, self._kind, self.sha256 = source, kind, file_hash(path)
        self._facts = facts or {}
        self.left_out = np.asarray(left_out, dtype=np.int64)
        # number of remaining samples before each of them
        self._kept_before = self.left_out - np.arange(len(self.left_out))
        self.in_sequence = source.in_sequence
        self.classes = source.classes
        self.crops = source.crops

    def __len__(self) -> int:
        return len(self._source) - len(self.left_out)

    def blocks(self) -> list[int]:
        """Return the number of remaining pairs in each shard."""
        ends = np.cumsum(self._source.blocks())
        return np.diff(ends - np.searchsorted(self.left_out, ends), prepend=0).tolist()

    def digest(self) -> str:
        """Return the digest of source and file; and of the pairs that ``include`` leaves out, since
        that of the source need not cover their ``uid``.
        """
        digest = short_digest(f"{self._source.digest()}\0{self.sha256}")
        if self._kind != "include":
            return digest
        left_out = hashlib.sha256(self.left_out.tobytes()).hexdigest()
        return short_digest(f"{digest}\0{left_out}")

    def locate(self, index: int, epoch: int) -> tuple[Source, int, int]:
        """Return the whole source, and the index in it."""
        return self._source, self.original(index), epoch

    def pairs(self, keys: Sequence[Key]) -> Iterator[tuple[Tensor, str] | BadSample]:
        """Yield the source's pairs."""
        return self._source.pairs([(epoch, self.original(index)) for epoch, index in keys])

    def original(self, index: int) -> int:
        """Return the index in the whole source."""
        return index + int(np.searchsorted(self._kept_before, index, side="right"))

    def about(self) -> Fields:
        """Return the source's facts, the file's hash and the number of samples left out."""
        return {
            **self._source.about(),
            f"{self._kind}_sha256": self.sha256,
            f"left_out_by_{self._kind}": len(self.left_out),
            **self._facts,
        }


def without_known_bad(source: Source, path: Path) -> LeftOut:
    """Return a source without the bad samples of its manifest.

    Raises:
        ValueError: not a manifest of this source; or the source is a mixture, whose indices mean
            other samples in each epoch.
    """
    if source.orders_itself:
        raise ValueError(
            f"data.manifest={path}: a mixture has no manifest; give one to each part, as "
            f"data.mixture=[{{manifest: FILE, ...}}, ...]"
        )
    try:
        manifest = read_json(path, "manifest", most=MAX_BYTES)
        latest = -1
        for index, reason, *_ in manifest["bad"]:
            if reason not in REASONS or not latest < index < manifest["samples"]:
                raise ValueError(f"bad: {index}, {reason}: out of order, or an unknown reason")
            latest = index
    except (OSError, ValueError) as error:
        raise ValueError(
            f"data.manifest={path}: not a manifest: {error}; make one with `gestalt data inspect`"
        ) from error
    if manifest["source_digest"] != source.digest() or manifest["samples"] != len(source):
        raise ValueError(
            f"data.manifest={path}: made of {manifest['samples']} samples with digest "
            f"{manifest['source_digest']}, but the source has "
            f"{len(source)} with {source.digest()}: inspect it again, with the same data.limit"
        )
    shared = manifest.get("shared_images")
    facts = {} if shared is None else {"shared_images": shared}
    bad = [row[0] for row in manifest["bad"]]
    return LeftOut(source, bad, path, kind="manifest", facts=facts)


def only_included(source: Source, path: Path) -> LeftOut:
    """Return the pairs of a source whose ``uid`` is in a file of DataComp's: NumPy's format, each
    uid as two integers.

    Raises:
        ValueError: it holds no such integers, or the uid of no pair.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            halves = np.lib.format.read_array(file)
        if halves.dtype != np.dtype("u8,u8") or halves.ndim != 1 or not len(halves):
            raise ValueError(f"it holds {halves.dtype} in the shape {halves.shape}")
        listed = np.sort(uid_hash(halves["f0"], halves["f1"]))
    except Exception as error:  # what NumPy and zipfile raise for a damaged file
        raise ValueError(
            f"data.include={path}: not uids of DataComp, of NumPy's type u8,u8: {error}"
        ) from error
    uids = np.zeros(len(source), np.uint64)
    if isinstance(source, StoredPairs):
        uids = source.store.join_hashes("uid")[: len(source)]
    found = listed[np.searchsorted(listed[:-1], uids)] == uids
    left_out = np.flatnonzero(~found | (uids == 0))  # 0: a pair without one
    if len(left_out) == len(source):
        raise ValueError(
            f"data.include={path}: none of {len(source):,} pairs, of which "
            f"{np.count_nonzero(uids):,} have a uid, is listed there; choose the list of this "
            "pool, or null"
        )
    return LeftOut(source, left_out, path, kind="include")
