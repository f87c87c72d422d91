"""Image sets: images with ground truth, to evaluate models on, one file each.

``docs/contributing.md`` explains how to add one.
"""

from collections.abc import Sequence

from gestalt.data_modules.labels.image_set import (
    ImageSet,
    ImageSetSample,
    LabelSet,
    plain_labels,
    select_label_sets,
    select_split,
)
from gestalt.data_modules.opening import find_opener

__all__ = [
    "ImageSet",
    "ImageSetSample",
    "LabelSet",
    "open_image_set",
    "plain_labels",
    "select_label_sets",
    "select_split",
]


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
    """Open an image set by name.

    Args:
        name: name of its file in this folder.
        root: folder with the data; None if the set needs none.
        split: name of the split; None for the one that is reported.
        limit: largest number of images, at least 1; None for all.
        subset: True to accept another number of images than the official one; a set cut by
            ``limit`` is accepted anyway.
        label_sets: names of the label sets to read; None for all.
        options: options of this set.

    Raises:
        ValueError: unknown name, split, label set or option, unreadable data, or another number of
            images than the official one.
    """
    opener = find_opener("image_sets", name, options)
    image_set = opener(root=root, split=split, limit=limit, label_sets=label_sets, **options)
    official = image_set.official_length
    if not subset and len(image_set) != limit and official not in (None, len(image_set)):
        raise ValueError(
            f"image set {name!r} has {len(image_set)} images, the official split {official}; "
            "set benchmark_subset=true to score another number"
        )
    return image_set
