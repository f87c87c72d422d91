"""Sources: image-text pairs to train on.  S image side in pixels.

To add a source, write ``data_modules/sources/<name>.py``; ``flickr.py`` is a short example:

1. Subclass ``corpora.stored_pairs.Store`` with ``__len__``, ``stored`` (an image's bytes and its captions, by number) and ``digest``.
2. Write ``open_here(*, root, size, seed, limit, captions=ANY_CAPTION, <options of its own>)``, with a default for each option.
3. In it, check the arguments and return ``StoredPairs(store, size=size, seed=seed, rule=captions, limit=limit)``.
4. For images that are drawn instead of stored, subclass ``Source`` and return that; ``scenes.py`` does.
5. Select it by ``data.source=<name>``, with ``data.options.<option>=<value>``.  The file's name is its only registration;
   an installed package adds such a module by an entry point in the group ``gestalt.sources``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

from torch import Tensor

from data_modules.opening import find_opener, own_options

COMMON = ("root", "size", "seed", "limit")
"""Arguments of every source."""


class Stored(NamedTuple):
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


class Pairs(ABC):
    """Pairs by number, as a source or as a store of files.

    Attributes:
        in_sequence: True if pairs can only be read forward, as from a pipe.  They are not shuffled, each loading process reads ascending
            indices, and a resumed run reads forward to its position.
    """

    in_sequence: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pairs in an epoch."""

    @abstractmethod
    def digest(self) -> str:
        """Return ``short_digest`` of the content, independent of its location; a resumed run must find the same."""

    def blocks(self) -> Sequence[int]:
        """Return the number of pairs in each shard; one shard by default.  Shards are shuffled, then pairs within windows of shards."""
        return [len(self)]

    def about(self) -> dict[str, Any]:
        """Return facts for the run's result, such as missing shards; empty by default."""
        return {}


class Source(Pairs):
    """Image-text pairs by number; the same pair for the same (seed, epoch, index) on any machine.

    Attributes:
        orders_itself: True if the source maps an index to another pair in each epoch, so that the loader must not shuffle.
        classes: class names if each image shows one thing of a known class, in order of label; None otherwise.
    """

    orders_itself: bool = False
    classes: tuple[str, ...] | None = None

    @abstractmethod
    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """Return an image, (3, S, S) uint8, and one of its captions.

        Raises:
            BadSample: the pair cannot be read; the run continues without it.
        """

    def stored(self, index: int) -> Stored | None:
        """Return the pair as its files hold it; None if the source draws its images.

        Raises:
            BadSample: the file cannot be read.
        """
        return None

    @property
    def keeps_order(self) -> bool:
        """True if the loader must read the indices in ascending order."""
        return self.in_sequence or self.orders_itself


class LabelledSource(Protocol):
    """A source whose images each show one thing of a known class.

    Attributes:
        classes: class names, in order of label.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102

    def label(self, index: int) -> int:
        """Return the class of an image."""
        ...


def labelled(source: Source) -> LabelledSource | None:
    """Return the source if it has labels, None otherwise."""
    return cast(LabelledSource, source) if source.classes else None


def options_taken(name: str) -> list[str]:
    """List the options of a source beyond ``COMMON``.

    Raises:
        ValueError: unknown source.
    """
    return own_options(find_opener(__name__, name, kind="data source", common=COMMON, options={}), common=COMMON)


def open_source(name: str, *, root: str | None, size: int, seed: int, limit: int | None, **options: object) -> Source:
    """Open a source by name.

    Args:
        name: name of its file in this folder.
        root: location of the data; None if the source needs none.
        size: side of the images, pixels.
        seed: seed of all random draws.
        limit: largest number of pairs, the first ones; None for all.
        options: options of this source.

    Raises:
        ValueError: unknown source or option, or data that cannot be read.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"data.limit is {limit}; it must be at least 1, or null for everything")
    opener = find_opener(__name__, name, kind="data source", common=COMMON, options=options)
    source: Source = opener(root=root, size=size, seed=seed, limit=limit, **options)
    return source
