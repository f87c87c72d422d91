"""Stored pairs: what lies in files, by number, and the source that it becomes.  S image side in pixels.

A store gives the bytes of an image and its texts as they are; ``StoredPairs`` draws from them what training sees.  So a store knows nothing
of crops and captions, and the tools read stores without a draw.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import CaptionRule, choose_caption
from data_modules.pixels.augment import random_resized_crop
from data_modules.pixels.photographs import Undecodable, read_bytes


class Stored(NamedTuple):
    """One pair as it is stored.

    Attributes:
        where: the shard, file or folder that it lies in.
        key: its name there.
        image: content of the image's file.
        captions: a text, UTF-8 bytes, or several of them; None where there is none.
    """

    where: str
    key: str
    image: bytes
    captions: object


def read_stored(path: Path, *, captions: object) -> Stored:
    """A pair whose image is a file.

    Raises:
        BadSample: the file is not there, or cannot be read.
    """
    try:
        return Stored(str(path.parent), path.name, read_bytes(path), captions)
    except Undecodable as error:
        raise BadSample(error.reason, where=str(path.parent), key=path.name, detail=error.detail) from error


class Store(Protocol):
    """Stored pairs by number."""

    def __len__(self) -> int:
        """Number of pairs."""
        ...

    def blocks(self) -> Sequence[int]:
        """Lengths of its shards in order, one for a store without any."""
        ...

    def stored(self, index: int) -> Stored:
        """A pair as it is stored.

        Raises:
            BadSample: its bytes cannot be had.
        """
        ...

    def digest(self) -> str:
        """Sixteen hexadecimal digits over what the pairs are."""
        ...


class StoredPairs:
    """A store as a source: photographs, cropped at random, each with a caption.

    Attributes:
        store: the pairs as they are stored.
        rule: which of a pair's texts is its caption.
        in_sequence: whether the store can only be read forward.
    """

    def __init__(self, store: Store, *, size: int, seed: int, rule: CaptionRule, limit: int | None = None) -> None:
        """Take the store; ``limit`` takes the first pairs."""
        self.store = store
        self.in_sequence = bool(getattr(store, "in_sequence", False))
        self._size = size
        self._seed = seed
        self.rule = rule
        self._length = len(store) if limit is None else min(limit, len(store))

    def __len__(self) -> int:
        """Number of pairs."""
        return self._length

    def blocks(self) -> list[int]:
        """The lengths of the store's shards, so many that they hold the pairs that are taken."""
        lengths = np.asarray(self.store.blocks(), dtype=np.int64)
        before = np.cumsum(lengths) - lengths
        taken = np.clip(self._length - before, 0, lengths)[before < self._length]
        return [int(length) for length in taken]

    def digest(self) -> str:
        """The store's, and how many pairs are taken where not all are."""
        whole = self.store.digest()
        return whole if len(self) == len(self.store) else hashlib.sha256(f"{whole} {len(self)}".encode()).hexdigest()[:16]

    def about(self) -> dict[str, Any]:
        """What the store says of itself."""
        about: Callable[[], dict[str, Any]] = getattr(self.store, "about", dict)
        return about()

    def stored(self, index: int) -> Stored:
        """The pair before anything is drawn.

        Raises:
            BadSample: its bytes cannot be had.
        """
        return self.store.stored(index)

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """A crop of a photograph, (3, S, S) uint8, and a caption of it.

        Raises:
            BadSample: the pair cannot be had; says why, where and which.
        """
        where, key, content, captions = self.stored(index)
        try:
            image = random_resized_crop(content, self._size, seed=self._seed, epoch=epoch, index=index)
        except Undecodable as error:
            raise BadSample(error.reason, where=where, key=key, detail=error.detail) from error
        return image, choose_caption(captions, self.rule, seed=self._seed, epoch=epoch, index=index, where=where, key=key)
