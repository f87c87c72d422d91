"""The source of stored pairs: it crops the images of a store and draws their captions.  S image
side in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gestalt.data_modules.corpora.captions import CaptionRule, choose_caption, usable_texts
from gestalt.data_modules.corpora.stores import ImageFiles as ImageFiles  # its place until 0.3.0
from gestalt.data_modules.corpora.stores import Store
from gestalt.data_modules.pairs import Key, Source, StoredPair
from gestalt.data_modules.pixels.augment import USUAL, Augmentation, prepare_random_crop
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.support.files import short_digest

TOGETHER, AHEAD = 32, 2**26
"""Largest number of files, and of their bytes, that are read before the first of them is
decoded.
"""


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
