"""Image sets: what models are measured on.  H W pixels, always native size.

To add one: a file here with ``open_here(*, root, split, limit, label_sets, <its own options>) -> ImageSet``.  Nothing else changes.
One image set may carry several label sets that share its images, such as VOC with 21 and with 20 classes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NotRequired, Protocol, TypedDict

from torch import Tensor

from data_modules.opening import find_opener


class ImageSetSample(TypedDict):
    """One image with its truth."""

    image: Tensor
    """(3, H, W) uint8."""
    name: str
    """For people: a file stem or an index."""
    labels: NotRequired[dict[str, Tensor]]
    """Name of a label set -> (H, W) uint8, index into it; ``IGNORE`` is not scored."""
    instance: NotRequired[Tensor]
    """(H, W) uint8: 0 background, 1..n objects, ``IGNORE`` void."""
    class_label: NotRequired[int]
    """Index into the one label set of a classification set."""
    place: NotRequired[int]
    """The number of the class that goes with the image's background by habit."""
    captions: NotRequired[list[str]]
    """What people (or a grammar) said of it."""


@dataclass(frozen=True)
class LabelSet:
    """Classes and the phrases that stand for them, many to one.

    Attributes:
        names: class names; the position is the label value.
        prompts: phrases of each class, without article or template.
        background: the class that stands for everything unnamed, or None.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    background: int | None

    def __post_init__(self) -> None:
        """Check the shape."""
        assert len(self.names) == len(self.prompts)
        assert all(self.prompts)

    def digest(self) -> str:
        """Sixteen hexadecimal digits over names, prompts and background."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class ImageSet(Protocol):
    """Images with truth, by number.

    Attributes:
        name: what its batches are told by.
        label_sets: the classes of its label maps, or of its images, by the name of the label set; empty where it has neither.
        official_length: number of images that its official score counts, or None.
        no_instances: why its samples have no instance maps, for people; None where they have.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def label_sets(self) -> Mapping[str, LabelSet]: ...  # noqa: D102

    @property
    def official_length(self) -> int | None: ...  # noqa: D102

    @property
    def no_instances(self) -> str | None: ...  # noqa: D102

    def __len__(self) -> int:
        """Number of images."""
        ...

    def sample(self, index: int) -> ImageSetSample:
        """One image with its truth."""
        ...


def chosen(known: Mapping[str, LabelSet], wanted: Sequence[str] | None) -> dict[str, LabelSet]:
    """The wanted label sets, or all.

    Raises:
        ValueError: one is unknown; the message lists those there are.
    """
    for name in wanted or ():
        if name not in known:
            raise ValueError(f"label set {name!r} is unknown; known: {', '.join(known) or 'none'}")
    return dict(known) if wanted is None else {name: known[name] for name in wanted}


def open_image_set(
    name: str,
    *,
    root: str | None,
    split: str | None,
    limit: int | None,
    subset: bool,
    label_sets: Sequence[str] | None = None,
    **options: object,
) -> ImageSet:
    """Open an image set by its file name.

    Args:
        name: file name in this folder.
        root: folder with the data; None where the set brings its own.
        split: None for the split that is reported.
        limit: at most so many images; None for all.
        subset: whether another number of images than the official one is wanted; so many as ``limit`` are, whatever it says.
        label_sets: those to read; None for all that it has.
        options: keywords of that set alone.

    Raises:
        ValueError: unknown name, label set or option, a set that cannot be read, or another number of images than the official one.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"image set {name!r}: limit is {limit}; it must be at least 1, or null for everything")
    opener = find_opener(__name__, name, kind="image set", common=("root", "split", "limit", "label_sets"), options=options)
    image_set: ImageSet = opener(root=root, split=split, limit=limit, label_sets=label_sets, **options)
    if not subset and len(image_set) != limit and image_set.official_length not in (None, len(image_set)):
        raise ValueError(
            f"image set {name!r} has {len(image_set)} images, the official split {image_set.official_length}; "
            "say benchmark_subset=true to measure on another number"
        )
    return image_set
