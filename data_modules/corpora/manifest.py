"""The manifest of a source: what `gestalt data inspect` found in it, so that samples that are known to be bad are left out of its order.

JSON: ``format``; ``source_digest`` and ``samples`` of what was inspected; ``bad``, a list of [index, reason, where, key]; and whatever else
inspection counted.  Its SHA-256 goes into the digest of the source that is left, and so into checkpoints and results.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from data_modules.corpora.bad_samples import REASONS
from data_modules.corpora.stored_pairs import Stored
from data_modules.sources import Source, about_source, read_in_sequence
from gestalt.support.files import replacing

FORMAT = 1

Bad = tuple[int, str, str, str]
"""Index in the source, reason, where, key."""


def write_manifest(path: Path, *, source: Source, bad: Sequence[Bad], counted: dict[str, Any]) -> str:
    """Write what was found of a source, atomically; returns the SHA-256 of the file.

    Args:
        path: JSON to write.
        source: what was inspected, whole.
        bad: its bad samples.
        counted: what else there is to tell.
    """
    held = {"format": FORMAT, "source_digest": source.digest(), "samples": len(source), "bad": sorted(bad), **counted}
    content = (json.dumps(held, indent=1) + "\n").encode()
    with replacing(path) as partial:
        partial.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


class WithoutKnownBad:
    """A source without the samples that its manifest calls bad; the others keep their shard and their order in it."""

    def __init__(self, source: Source, path: Path) -> None:
        """Read the manifest.

        Raises:
            ValueError: there is none, it is of other data, or the source is a mixture, whose indices mean other samples in each epoch.
        """
        if getattr(source, "orders_itself", False):
            raise ValueError(
                f"data.manifest={path}: a mixture has none; give its parts theirs, as data.mixture=[{{manifest: FILE, ...}}, ...]"
            )
        held, self.sha256 = _read(path)
        if (held["source_digest"], held["samples"]) != (source.digest(), len(source)):
            raise ValueError(
                f"data.manifest={path}: made of {held['samples']} samples with digest {held['source_digest']}, and the source has "
                f"{len(source)} with {source.digest()}: inspect it again, with the same data.limit"
            )
        self._source = source
        self.bad = np.asarray([entry[0] for entry in held["bad"]], dtype=np.int64)
        self._skipped = self.bad - np.arange(len(self.bad))  # how many good ones lie before each bad one
        ends = np.cumsum(np.asarray(source.blocks(), dtype=np.int64))
        self._blocks: list[int] = np.diff(ends - np.searchsorted(self.bad, ends), prepend=0).tolist()
        self.in_sequence = read_in_sequence(source)
        self.classes = getattr(source, "classes", None)

    def __len__(self) -> int:
        """Number of pairs that are left."""
        return len(self._source) - len(self.bad)

    def blocks(self) -> list[int]:
        """What is left of each shard."""
        return self._blocks

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the source's and the manifest's."""
        return hashlib.sha256(f"{self._source.digest()}\0{self.sha256}".encode()).hexdigest()[:16]

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """As the source gives it.

        Raises:
            BadSample: as the source does.
        """
        return self._source.pair(self.original(index), epoch)

    def stored(self, index: int) -> Stored:
        """As the source has it, where it has files.

        Raises:
            BadSample: as the source does.
        """
        stored: Stored = self._source.stored(self.original(index))  # type: ignore[attr-defined]
        return stored

    def label(self, index: int) -> int:
        """As the source gives it, where it has labels."""
        label: int = self._source.label(self.original(index))  # type: ignore[attr-defined]
        return label

    def original(self, index: int) -> int:
        """The index in the whole source."""
        return index + int(np.searchsorted(self._skipped, index, side="right"))

    def about(self) -> dict[str, Any]:
        """What the source says of itself, and what was left out."""
        return {**about_source(self._source), "manifest_sha256": self.sha256, "left_out_by_manifest": len(self.bad)}


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        content = path.read_bytes()
        held = json.loads(content)
        indices = [entry[0] for entry in held["bad"]]
        fits = held["format"] == FORMAT and all(entry[1] in REASONS for entry in held["bad"]) and indices == sorted(set(indices))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"data.manifest={path}: not a manifest: {error}; `gestalt data inspect` writes one") from error
    if not fits or (indices and not 0 <= indices[0] <= indices[-1] < held["samples"]):
        raise ValueError(f"data.manifest={path}: of another format, with an unknown reason, or its indices are not in order; inspect again")
    return held, hashlib.sha256(content).hexdigest()
