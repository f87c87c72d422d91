"""Image-text pairs by number: what a source of them has.  S image side in pixels."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from gestalt.data_modules.pixels.bad_samples import BadSample

Key = tuple[int, int]
"""(epoch, index): with the seed, it determines a training sample."""


class StoredPair(NamedTuple):
    """One pair as its files hold it.

    Attributes:
        where: its shard, file or folder.
        key: its name in there.
        image: bytes of the image file.
        captions: a text, UTF-8 bytes, or a list of these; None if there is no caption.
    """

    where: str
    key: str
    image: bytes
    captions: object


class NumberedPairs(ABC):
    """Pairs by number, as a source or as a store of files.

    Attributes:
        in_sequence: True if pairs can only be read forward, as from a pipe.  They are not shuffled,
            each loading process reads ascending indices, and a resumed run reads forward to its
            position.
    """

    in_sequence: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pairs in an epoch."""

    @abstractmethod
    def digest(self) -> str:
        """Return ``short_digest`` of the content, independent of its location; a resumed run must
        find the same.
        """

    def blocks(self) -> list[int]:
        """Return the number of pairs in each shard; one shard by default.  Shards are shuffled,
        then pairs within windows of shards.
        """
        return [len(self)]

    def about(self) -> dict[str, Any]:
        """Return facts for the run's result, such as missing shards; empty by default."""
        return {}


class Source(NumberedPairs):
    """Image-text pairs by number; the same pair for the same (seed, epoch, index) on any machine.

    Attributes:
        orders_itself: True if the source maps an index to another pair in each epoch, so that the
            loader must not shuffle.
        classes: class names if each image shows one thing of a known class, in order of label; None
            otherwise.
        crops: number of different crops of each image: epoch e repeats that of epoch e mod
            ``crops``.  None if each epoch draws its own.
    """

    orders_itself: bool = False
    crops: int | None = None
    classes: tuple[str, ...] | None = None

    @abstractmethod
    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """Return an image, (3, S, S) uint8, and one of its captions.

        Raises:
            BadSample: the pair cannot be read; the run continues without it.
        """

    def pairs(self, keys: Sequence[Key]) -> Iterator[tuple[Tensor, str] | BadSample]:
        """Yield the pair of each (epoch, index), in order, or the reason why it cannot be read."""
        for epoch, index in keys:
            try:
                yield self.pair(index, epoch)
            except BadSample as bad:
                yield bad

    def image(self, index: int, epoch: int) -> Tensor:
        """Return the image of ``pair``, whatever its captions are.

        Raises:
            BadSample: it cannot be read.
        """
        return self.pair(index, epoch)[0]

    def caption(self, index: int, epoch: int) -> str:
        """Return the caption of ``pair``, whose image is known to be good.

        Raises:
            BadSample: it cannot be used.
        """
        return self.pair(index, epoch)[1]

    def read(self, index: int) -> StoredPair | None:
        """Read the pair as its files hold it; None if the source draws its images.

        Raises:
            BadSample: the file cannot be read.
        """
        return None

    def texts(self, index: int) -> list[str]:
        """Return the usable captions that may be drawn for a pair; by default that of the first
        epoch.

        Raises:
            BadSample: the pair cannot be read.
        """
        return [self.caption(index, 0)]

    def label(self, index: int) -> int:
        """Return the class of an image, for a source with ``classes``."""
        raise NotImplementedError(f"{type(self).__name__} has no classes")


class Relocated(Source):
    """A source whose pairs are those of other sources at other places."""

    @abstractmethod
    def locate(self, index: int, epoch: int) -> tuple[Source, int, int]:
        """Return the source of a pair, and its index and epoch there."""

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """Return the pair of its source."""
        source, *place = self.locate(index, epoch)
        return source.pair(*place)

    def image(self, index: int, epoch: int) -> Tensor:
        """Return the image of its source."""
        source, *place = self.locate(index, epoch)
        return source.image(*place)

    def caption(self, index: int, epoch: int) -> str:
        """Return the caption of its source."""
        source, *place = self.locate(index, epoch)
        return source.caption(*place)

    def read(self, index: int) -> StoredPair | None:
        """Read the files of the pair of the first epoch."""
        source, index, _ = self.locate(index, 0)
        return source.read(index)

    def texts(self, index: int) -> list[str]:
        """Return the captions of the pair of the first epoch."""
        source, index, _ = self.locate(index, 0)
        return source.texts(index)

    def label(self, index: int) -> int:
        """Return the label of the image of the first epoch."""
        source, index, _ = self.locate(index, 0)
        return source.label(index)
