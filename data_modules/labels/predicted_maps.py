"""Label maps that another system predicted for an image set: find them, read them, map their values
to classes.  H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gestalt.data_modules.labels.image_set import ImageSet, ImageSetSample
from gestalt.data_modules.labels.masks import ValueMap, packed, read_mask
from gestalt.data_modules.pixels.photographs import PIXEL_LIMIT
from gestalt.support.arrays import Array, Pixels, map_array
from gestalt.support.label_values import IGNORE, ignored_value
from gestalt.support.names import nearest

ENDINGS = (".png", ".npy")
"""Endings of the files of label maps."""

MODES = ("P", "L", "I;16", "I;16B", "I")
_LARGEST = 2**16 - 1
_NAMED = 3
"""Number of missing images that a message names."""


Map = TypeVar("Map", Array, Tensor)

Values = Callable[..., Tensor]
"""Maps the values of a file to classes, or groups, (H, W); ``path`` is for messages."""


def find_maps(folder: Path, names: Sequence[str], suffix: str = "") -> list[Path]:
    """Find the file of each image in a folder or its sub-folders: ``<name><suffix>.png`` or
    ``.npy``.

    Args:
        folder: folder of the maps.
        names: names of the images, with a sub-folder where the image set has them.
        suffix: end of the files' stems behind the image's name.

    Raises:
        ValueError: an image has no file, or several.
    """
    files: dict[str, set[Path]] = {}
    for path in folder.rglob("[!.]*"):
        if path.suffix.lower() in ENDINGS:
            for key in (path.stem, path.relative_to(folder).with_suffix("").as_posix()):
                files.setdefault(key, set()).add(path)
    missing = [name for name in names if name + suffix not in files]
    if missing:
        start = missing[0]
        listed = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        other = next((key[len(start) :] for key in sorted(files) if key.startswith(start)), None)
        mend = (
            f"add {start}{suffix}.png or .npy"
            if other is None
            else f"choose --suffix={other} for files named as {start}{other}.png"
        )
        raise ValueError(
            f"{folder}: no label map for {len(missing)} of {len(names)} images ({listed}); {mend}"
        )
    found = []
    for name in names:
        first, *others = sorted(files[name + suffix])
        if others:
            raise ValueError(
                f"{folder}: image {name} has several maps, such as {first} and {others[0]}; leave "
                "one, or name its folder"
            )
        found.append(first)
    return found


def value_map(
    values: str | Mapping[int, str | None], *, names: Sequence[str], truth: ValueMap | None = None
) -> ValueMap:
    """Return the map from the values of files to classes.

    Args:
        values: a mapping of value -> class name, None for no class; or ``index``: values are class
            indices; ``reduce_zero_label``: class indices plus one, 0 for no class; ``truth``: the
            values of the benchmark's own masks.  255, or 65535 with more than 255 classes, is no
            class unless a mapping names it.
        names: names of the classes.
        truth: the map of the benchmark's own masks; None if it has none.

    Raises:
        ValueError: an unknown class name, or no such map.
    """
    if values == "truth":
        if truth is None:
            raise ValueError(
                "--values truth: the masks of this benchmark do not store class numbers; choose "
                "index, or a file of values"
            )
        return truth
    if isinstance(values, str):
        values = dict(enumerate([None, *names] if values == "reduce_zero_label" else names))
    for name in values.values():
        if name is not None and name not in names:
            raise ValueError(f"--values: {name!r} is not a class; {nearest(name, names)}")
    classes = {value: names.index(name) for value, name in values.items() if name is not None}
    none = {*values, ignored_value(len(names))} - set(classes)
    return ValueMap(classes, ignored=none, count=len(names))


def colour_map(colours: Pixels, unnamed: Sequence[tuple[int, int, int]]) -> ValueMap:
    """Return the map from painted maps to classes.

    Args:
        colours: (C, 3), of the classes; of classes of one colour the first is meant.
        unnamed: colours of pixels without a class.
    """
    stored = packed(colours).tolist()
    classes = {colour: stored.index(colour) for colour in stored}
    none = set(packed(np.array(unnamed)).tolist()) - set(classes)
    return ValueMap(classes, ignored=none, count=len(colours), painted=True)


def group_map(values: Array, path: Path) -> Tensor:
    """Number the groups of a map from 0 on, in order of value; every value is a group.  Returns
    (H, W) uint8.

    Raises:
        ValueError: more groups than one byte numbers.
    """
    stored, groups = np.unique(values, return_inverse=True)
    if len(stored) > IGNORE:
        raise ValueError(f"{path} holds {len(stored)} groups; at most {IGNORE} are supported")
    return torch.from_numpy(groups.reshape(values.shape).astype(np.uint8))


def read_map(path: Path, *, painted: bool = False) -> Array:
    """Read the stored values of a label map.  Returns (H, W) integers, 0 to 65535; or (H, W, 3)
    uint8 if it is painted.

    Raises:
        ValueError: unreadable, of another kind, or a value out of range.
    """
    values: Array
    if path.suffix.lower() == ".npy":
        values = map_array(path)
        if painted or values.ndim != 2 or values.dtype.kind not in "iu":
            raise ValueError(
                f"{path} holds {values.dtype} {values.shape}; a label map is (H, W) integers, and "
                "a painted one a PNG"
            )
    else:
        values = read_mask(path, image=None, modes=("RGB",) if painted else MODES)
    if not 0 < values.size <= PIXEL_LIMIT * (3 if painted else 1):
        raise ValueError(
            f"{path} is {values.shape[1]}x{values.shape[0]}; a label map has 1 to {PIXEL_LIMIT:,} "
            "pixels"
        )
    least, largest = int(values.min()), int(values.max())
    if least < 0 or largest > _LARGEST:
        raise ValueError(
            f"{path} holds {least if least < 0 else largest}; the values of a label map are 0 to "
            f"{_LARGEST}"
        )
    return values


def nearest_pixels(values: Map, size: tuple[int, int]) -> Map:
    """Scale a map to a size (H, W): each pixel is the nearest of the original, by centres."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, values.shape[:2], strict=True)
    )
    return values[rows][:, columns]


@dataclass(eq=False)
class WithPredictions:
    """An image set whose samples also have the predicted map.

    Attributes:
        images: the image set.
        files: the map of each image.
        values: maps their values to classes.
        resize: True to scale a map of another size than its truth; otherwise it is refused.
    """

    images: ImageSet
    files: Sequence[Path]
    values: Values
    resize: bool = False

    def __post_init__(self) -> None:
        """Copy the attributes that describe the image set."""
        self.name, self.label_sets = self.images.name, self.images.label_sets
        self.official_length = self.images.official_length
        self.no_instances = self.images.no_instances

    def __len__(self) -> int:
        return len(self.files)

    def sample(self, index: int) -> ImageSetSample:
        """Read an image with its truth and its predicted map.

        Raises:
            ValueError: a value that no class has, or another size than the truth's.
        """
        sample, path = self.images.sample(index), self.files[index]
        values = read_map(path, painted=getattr(self.values, "painted", False))
        height, width = next(iter(sample["labels"].values())).shape
        if values.shape[:2] != (height, width):
            if not self.resize:
                raise ValueError(
                    f"{path} is {values.shape[1]}x{values.shape[0]}, its truth {width}x{height}; "
                    "write it at that size, or choose --resize nearest"
                )
            values = nearest_pixels(values, size=(height, width))
        sample["prediction"] = self.values(values, path=path)
        return sample
