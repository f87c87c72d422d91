"""Base classes of image sets: a sample, a label set, and what every image set has.  H W pixels,
always native size.

One image set may have several label sets for the same images, such as VOC with 21 and with 20
classes.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict

from torch import Tensor

from gestalt.support.files import short_digest


class ImageSetSample(TypedDict):
    """One image with its ground truth."""

    image: Tensor
    """(3, H, W) uint8."""
    name: str
    """Name for messages: file stem or index."""
    labels: NotRequired[dict[str, Tensor]]
    """Name of a label set -> (H, W) indices of its classes, typed by ``map_type``;
    ``ignored_value`` is not scored.
    """
    prediction: NotRequired[Tensor]
    """(H, W) classes or groups that another system predicted."""
    instance: NotRequired[Tensor]
    """(H, W) uint8: 0 background, 1..n objects, ``IGNORE`` void."""
    class_label: NotRequired[int]
    """Index into the only label set of a classification set."""
    place: NotRequired[int]
    """The class that usually occurs with the image's background."""
    captions: NotRequired[list[str]]
    """Descriptions of the image."""


@dataclass(frozen=True)
class LabelSet:
    """Classes with the phrases that name them.

    Attributes:
        names: class names, in order of label value.
        prompts: one or more phrases for each class, without article or template.
        background: the class of everything unnamed, or None.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    background: int | None

    def digest(self) -> str:
        """Return the digest of names, prompts and background, which a subclass does not extend."""
        digested = {"names": self.names, "prompts": self.prompts, "background": self.background}
        return short_digest(json.dumps(digested, sort_keys=True))


def plain_labels(names: Sequence[str]) -> LabelSet:
    """Return a label set without background whose classes are named by one word each."""
    return LabelSet(tuple(names), prompts=tuple((name,) for name in names), background=None)


class ImageSet(Protocol):
    """Images with ground truth, by number.

    Attributes:
        name: name of the set in its batches.
        label_sets: classes of its label maps or images, by name of the label set; empty if it has
            neither.
        official_length: number of images in the official split, or None.
        no_instances: the reason why its samples have no instance maps, for messages; None if they
            have.
    """

    name: str
    label_sets: Mapping[str, LabelSet]
    official_length: int | None
    no_instances: str | None

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def sample(self, index: int) -> ImageSetSample:
        """Return one image with its ground truth."""
        ...


def select_label_sets(
    known: Mapping[str, LabelSet], names: Sequence[str] | None
) -> dict[str, LabelSet]:
    """Return the named label sets, or all for None.

    Raises:
        ValueError: unknown label set.
    """
    for name in names or ():
        if name not in known:
            raise ValueError(f"label set {name!r} is unknown; known: {', '.join(known) or 'none'}")
    return dict(known) if names is None else {name: known[name] for name in names}


def select_split(
    image_set: str, split: str | None, *, known: Collection[str], default: str = "val"
) -> str:
    """Return the split, or the default for None.

    Raises:
        ValueError: unknown split.
    """
    split = default if split is None else split
    if split not in known:
        raise ValueError(f"{image_set} split {split!r} is unknown; known: {', '.join(known)}")
    return split
