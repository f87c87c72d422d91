"""Stores: image files with captions by number, as bytes and texts that are not changed.  A store
needs no knowledge of crops and captions, and tools can read it without a random draw.
"""

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gestalt.data_modules.pairs import NumberedPairs, StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.data_modules.pixels.photographs import read_bytes
from gestalt.support.files import value_hash


class Store(NumberedPairs):
    """Image files with captions, by number.  Subclasses implement ``__len__``, ``digest`` and
    ``read``.

    Attributes:
        digest_has_values: True if ``digest`` covers ``join_values``.
    """

    digest_has_values = False

    @abstractmethod
    def read(self, index: int) -> StoredPair:
        """Read a pair as its files hold it.

        Raises:
            BadSample: its bytes cannot be read.
        """

    def describe(self, index: int) -> StoredPair:
        """Return the pair without the bytes of its image, where only captions are needed; the image
        may prove unreadable later.
        """
        return self.read(index)

    def join_values(self, name: str) -> Iterator[Any]:
        """Yield the value of each pair by which a table is joined to them, None without one:
        ``key`` and ``path`` are the names of images.
        """
        for index in range(len(self)):
            yield self.describe(index).key if name in ("key", "path") else None

    def join_hashes(self, name: str) -> NDArray[np.uint64]:
        """Return the hashes of ``join_values``; 0 for a pair without one."""
        return value_hashes(self.join_values(name))


class ShardedStore(Store):
    """A store whose pairs lie in shards, one shard after the other."""

    def __init__(self, lengths: list[int]) -> None:
        """Take the number of pairs in each shard."""
        self._lengths = lengths
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return sum(self._lengths)

    def blocks(self) -> list[int]:
        """Return the number of pairs in each shard."""
        return self._lengths

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of a pair's shard, and its position in there."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return shard, index - int(self._ends[shard] - self._lengths[shard])


def value_hashes(values: Iterable[Any]) -> NDArray[np.uint64]:
    """Return the hash of each value."""
    return np.fromiter(map(value_hash, values), np.uint64)


def image_bytes(image: object) -> bytes:
    """Return the bytes of an image column, which holds bytes, or a struct with ``bytes``.

    Raises:
        BadSample: it has none.
    """
    if isinstance(image, dict):
        image = image.get("bytes")
    if not isinstance(image, bytes):
        raise BadSample("missing_image", f"expected bytes, got {type(image).__name__}")
    return image


def check_inside(names: Iterable[str], *, table: Path, folder: Path) -> None:
    """Check that file names do not lead out of a folder, nor symbolic links in it.

    Raises:
        ValueError: an absolute name, one with ``..``, or a link to somewhere else.
    """
    inside = os.path.join(os.path.realpath(folder), "")
    of_folder = cache(os.path.realpath)  # many files share a folder
    for name in names:
        file = folder / name
        place = os.path.realpath(file) if file.is_symlink() else of_folder(file.parent) + os.sep
        if name.startswith("/") or ".." in name.split("/") or not place.startswith(inside):
            raise ValueError(
                f"{table} names {name!r}, which is outside of {folder}; to take such files too, "
                "set data.options.outside=true"
            )


class ImageFiles(Store):
    """Pairs whose images are files of their own."""

    def __init__(
        self,
        pairs: Sequence[tuple[Path, list[Any]]],
        *,
        digest: str,
        unlisted: Sequence[StoredPair] = (),
    ) -> None:
        """Take the files with their captions, and their digest; captions of ``unlisted`` images
        follow them.
        """
        self._described = [
            StoredPair(str(path.parent), path.name, b"", captions) for path, captions in pairs
        ]
        self._described += unlisted
        self._listed = len(pairs)
        self._digest = digest

    def __len__(self) -> int:
        return len(self._described)

    def digest(self) -> str:
        """Return the digest of files and captions."""
        return self._digest

    def read(self, index: int) -> StoredPair:
        """Read an image and its captions."""
        pair = self.describe(index)
        with bad_sample_at(pair.where, pair.key):
            if index >= self._listed:
                raise BadSample("missing_image", "captions of an image that is not listed")
            return pair._replace(image=read_bytes(Path(pair.where, pair.key)))

    def describe(self, index: int) -> StoredPair:
        """Return an image's captions."""
        return self._described[index]
