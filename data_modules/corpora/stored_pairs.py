"""Stored pairs: image files with captions by number, and the source that crops the images and draws
the captions.  S image side in pixels.

A store returns bytes and texts unchanged, so it needs no knowledge of crops and captions, and tools
can read it without a random draw.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gestalt.data_modules.corpora.captions import CaptionRule, choose_caption, usable_texts
from gestalt.data_modules.pairs import Key, NumberedPairs, Source, StoredPair
from gestalt.data_modules.pixels.augment import USUAL, Augmentation, prepare_random_crop
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.data_modules.pixels.photographs import read_bytes
from gestalt.support.files import short_digest, value_hash

TOGETHER, AHEAD = 32, 2**26
"""Largest number of files, and of their bytes, that are read before the first of them is
decoded.
"""


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
                f"{table} names {name!r}, which lies outside of {folder}; to take such files too, "
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


@dataclass(eq=False)
class StoredPairs(Source):
    """A store as a source: random crops of its images, each with one of its captions.

    Attributes:
        store: the files.
        size: S.
        seed: seed of the draws.
        rule: selects the caption among a pair's texts.
        limit: number of the first pairs that are kept; None for all.
        crops: number of crops of each image; None for a new one an epoch.
        augmentation: random changes of the images.
    """

    store: Store
    _: KW_ONLY
    size: int
    seed: int
    rule: CaptionRule
    limit: int | None = None
    crops: int | None = None
    augmentation: Augmentation = USUAL

    def __post_init__(self) -> None:
        self.in_sequence = self.store.in_sequence

    def __len__(self) -> int:
        return min(self.limit or len(self.store), len(self.store))

    def blocks(self) -> list[int]:
        """Return the number of pairs in each shard, up to the last one that is used."""
        lengths = np.array(self.store.blocks())
        before = np.cumsum(lengths) - lengths
        return np.clip(len(self) - before, 0, lengths)[before < len(self)].tolist()

    def digest(self) -> str:
        """Return the store's digest; with a limit, a digest of it and the number of pairs."""
        whole = self.store.digest()
        return whole if len(self) == len(self.store) else short_digest(f"{whole} {len(self)}")

    def about(self) -> dict[str, Any]:
        """Return the store's facts, and the number of pairs that ``limit`` leaves out."""
        left_out = len(self.store) - len(self)
        return self.store.about() | ({"left_out_by_limit": left_out} if left_out else {})

    def read(self, index: int) -> StoredPair:
        """Read the pair, with the captions that may be drawn."""
        return self.captioned(self.store.read(index), index)

    def describe(self, index: int) -> StoredPair:
        """Read it without the bytes of the image where the store can do without them."""
        return self.captioned(self.store.describe(index), index)

    def captioned(self, stored: StoredPair, index: int) -> StoredPair:
        """Return a pair of the store with the captions that may be drawn; here the store's own."""
        return stored

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """Draw a crop of the image, (3, S, S) uint8, and a caption."""
        (pair,) = self.pairs([(epoch, index)])
        if isinstance(pair, BadSample):
            raise pair
        return pair

    def image(self, index: int, epoch: int) -> Tensor:
        """Draw the crop of ``pair``."""
        return self._prepare_crop(self.read(index), index, epoch)()

    def caption(self, index: int, epoch: int) -> str:
        """Draw the caption of ``pair``."""
        return self._caption(self.describe(index), index, epoch)

    def texts(self, index: int) -> list[str]:
        """Return the captions that may be drawn."""
        return usable_texts(self.describe(index).captions, self.rule)

    def pairs(self, keys: Sequence[Key]) -> Iterator[tuple[Tensor, str] | BadSample]:
        """Yield the pairs.

        Several files are read, and their crops and captions drawn, before the first of them is
        decoded: decoding fills the processor's caches, so that whatever is done between two images
        takes several times as long.
        """
        prepared: list[tuple[Any, str | BadSample]] = []
        held = 0  # bytes
        for number, (epoch, index) in enumerate(keys, start=1):
            decode: Callable[[], Tensor] | None = None  # stays None if the file cannot be read
            caption: str | BadSample
            try:
                stored = self.read(index)
                held += len(stored.image)
                decode = self._prepare_crop(stored, index, epoch)
                caption = self._caption(stored, index, epoch)
            except BadSample as bad:
                caption = bad
            prepared.append((decode, caption))
            if number == len(keys) or len(prepared) == TOGETHER or held > AHEAD:
                for decode_image, text in prepared:
                    try:  # a bad image is reported before a bad caption
                        image = decode_image and decode_image()
                        yield text if isinstance(text, BadSample) else (image, text)
                    except BadSample as bad:
                        yield bad
                prepared, held = [], 0

    def _prepare_crop(self, stored: StoredPair, index: int, epoch: int) -> Callable[[], Tensor]:
        """Draw the crop of an image; the result decodes it, or raises ``BadSample``."""
        crop = epoch if self.crops is None else epoch % self.crops
        decode = prepare_random_crop(
            stored.image,
            self.size,
            seed=self.seed,
            epoch=crop,
            index=index,
            augmentation=self.augmentation,
        )
        return bad_sample_at(stored.where, stored.key)(decode)

    def _caption(self, stored: StoredPair, index: int, epoch: int) -> str:
        with bad_sample_at(stored.where, stored.key):
            return choose_caption(
                stored.captions, self.rule, seed=self.seed, epoch=epoch, index=index
            )
