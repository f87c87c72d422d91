"""Sources: where image-text pairs come from.  S image side in pixels.

To add one: a file here with ``open_here(*, root, size, seed, limit, <its own options>) -> Source``.  Nothing else changes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from data_modules.opening import find_opener, own_options

COMMON = ("root", "size", "seed", "limit")
"""What every source takes."""


class Source(Protocol):
    """Image-text pairs by number, the same pair for the same (seed, epoch, index) anywhere."""

    def __len__(self) -> int:
        """Number of pairs in an epoch."""
        ...

    def blocks(self) -> Sequence[int]:
        """Lengths of its shards in order, one for a source without any; shards are shuffled, and their pairs within windows of shards."""
        ...

    def pair(self, index: int, epoch: int) -> tuple[Tensor, str]:
        """An image, (3, S, S) uint8, and a caption of it.

        Raises:
            BadSample: the pair cannot be had; the run goes on without it.
        """
        ...

    def digest(self) -> str:
        """Sixteen hexadecimal digits over what the pairs are: a resumed run must read the same, wherever it lies."""
        ...


def read_in_sequence(source: Source) -> bool:
    """Whether a source can only be read forward, as a pipe can: it says so by an attribute ``in_sequence`` that is True.

    Its pairs are not shuffled, and each process asks for ever higher indices; after a resume it reads forward to where the run was.
    """
    return bool(getattr(source, "in_sequence", False))


def keeps_its_order(source: Source) -> bool:
    """Whether a source's indices are to be read in their order: it can only be read forward, or an attribute ``orders_itself`` is True."""
    return read_in_sequence(source) or bool(getattr(source, "orders_itself", False))


def about_source(source: Source) -> dict[str, Any]:
    """What a source says of itself for a run's result by a method ``about``, such as shards that are missing; empty where it has none."""
    about: Callable[[], dict[str, Any]] = getattr(source, "about", dict)
    return about()


class LabelledSource(Source, Protocol):
    """A source whose images each show one thing of a known class.

    Attributes:
        classes: their names; the position is the label.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102

    def label(self, index: int) -> int:
        """The class of an image."""
        ...


def labelled(source: Source) -> LabelledSource | None:
    """The source, where it knows the class of each of its images; None elsewhere."""
    return cast(LabelledSource, source) if getattr(source, "classes", None) else None


def options_taken(name: str) -> list[str]:
    """The options of a source alone.

    Raises:
        ValueError: unknown name.
    """
    return own_options(find_opener(__name__, name, kind="data source", common=COMMON, options={}), common=COMMON)


def open_source(name: str, *, root: str | None, size: int, seed: int, limit: int | None, **options: object) -> Source:
    """Open a source by its file name.

    Args:
        name: file name in this folder.
        root: folder with the data; None where the source brings its own.
        size: side of the images, pixels.
        seed: of every random draw.
        limit: at most so many pairs; None for all.
        options: keywords of that source alone.

    Raises:
        ValueError: unknown name or option, or a source that cannot be read.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"data.limit is {limit}; it must be at least 1, or null for everything")
    opener = find_opener(__name__, name, kind="data source", common=COMMON, options=options)
    source: Source = opener(root=root, size=size, seed=seed, limit=limit, **options)
    return source
