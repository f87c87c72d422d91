"""Masks: read the stored values of label files and map them to classes.  H W pixels."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.data_modules.pixels.formats import MASKS
from gestalt.data_modules.pixels.photographs import open_as
from gestalt.support.arrays import Array, Ints
from gestalt.support.label_values import IGNORE, WIDE, ignored_value, map_type

_PACKED = np.array([65_536, 256, 1])

LOSSY = ("jpeg", "tiff_jpeg", "webp")  # compressions of a TIFF

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L")
"""Pillow modes of 16-bit grey masks, by the order of their bytes."""


def packed(colours: Array) -> Ints:
    """Return colours (..., 3) as one number each: 65536 red + 256 green + blue."""
    return colours.astype(np.int64) @ _PACKED


class ValueMap:
    """Map from the values of an 8- or 16-bit mask, or from the colours of a painted one, to
    classes.

    Args:
        classes: value -> class; a colour is one number, see ``packed``.
        ignored: values that are not scored.
        rest: class of all other values; None if they are errors.
        count: number of classes, which decides the type of the map; by default one more than the
            largest class index.
        painted: True for colours.
    """

    def __init__(
        self,
        classes: Mapping[int, int],
        *,
        ignored: Collection[int] = (),
        rest: int | None = None,
        count: int | None = None,
        painted: bool = False,
    ) -> None:
        assert not set(classes) & set(ignored)
        count = max(classes.values()) + 1 if count is None else count
        assert max(classes.values()) < count <= WIDE
        self.painted = painted
        values = 2**24 if painted else 2**16
        self._known = np.full(values, rest is not None)
        self._known[[*classes, *ignored]] = True
        other = ignored_value(count)
        self._class = np.full(values, other if rest is None else rest, dtype=map_type(count))
        self._class[list(ignored)] = other
        self._class[list(classes)] = list(classes.values())

    def __call__(self, values: Array, *, path: Path) -> Tensor:
        """Return the classes of a mask (H, W), or (H, W, 3) if it is painted: (H, W) of their
        ``map_type``, with ``ignored_value`` where it is not scored.

        Raises:
            ValueError: unknown value or colour.
        """
        if self.painted:
            values = packed(values)
        wrong = np.unique(values[~self._known[values]]).tolist()
        if wrong and self.painted:
            raise ValueError(f"{path} holds the colour #{wrong[0]:06x}, which no class has")
        if wrong:
            raise ValueError(
                f"{path} holds values {wrong}; it must hold "
                f"{_ranges(np.flatnonzero(self._known))} only"
            )
        return torch.from_numpy(self._class[values])


def read_mask(path: Path, *, image: Tensor | None, modes: Sequence[str] = ("P", "L")) -> Array:
    """Read the stored values of a mask without conversion, so palette indices are the
    values.  Returns (H, W) integers, (H, W, 3) for RGB.

    Args:
        path: a file in a format that keeps values, such as PNG.
        image: (3, H, W), whose size the mask must have; None to skip this check.
        modes: allowed Pillow modes.

    Raises:
        ValueError: unreadable, perhaps lossy, another mode, or another size than the image.
    """
    values, mode, kind, compression = open_as(
        path, lambda mask: (np.array(mask), mask.mode, mask.format, mask.info.get("compression"))
    )
    if kind not in MASKS or compression in LOSSY:
        raise ValueError(
            f"{path} is a {kind} whose compression may change values; store masks as PNG"
        )
    if mode not in modes:
        raise ValueError(
            f"{path} has mode {mode}; a mask of this layout has mode {' or '.join(modes)}"
        )
    if image is not None and values.shape[:2] != image.shape[1:]:
        raise ValueError(
            f"{path} is {values.shape[1]}x{values.shape[0]}, its image "
            f"{image.shape[2]}x{image.shape[1]}"
        )
    return values


def _ranges(values: Array) -> str:
    """Format ascending values as ranges: ``0-20, 255``."""
    runs = np.split(values, np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def objects(
    values: Array,
    *,
    kept: Array,
    void: NDArray[np.bool_] | bool,
    path: Path,
) -> Tensor:
    """Return an instance map, (H, W) uint8: 1..n the objects in order of value, ``IGNORE`` void, 0
    elsewhere.

    Args:
        values: (H, W), one value an object.
        kept: values of the objects, ascending.
        void: (H, W), True for pixels that are neither object nor background; False for none.
        path: file of the values, for messages.

    Raises:
        ValueError: too many objects for one byte.
    """
    if len(kept) >= IGNORE:
        raise ValueError(f"{path} holds {len(kept)} objects; at most {IGNORE - 1} are supported")
    rank, is_object = np.searchsorted(kept, values), np.isin(values, kept)
    return torch.from_numpy(
        np.where(void, IGNORE, np.where(is_object, rank + 1, 0)).astype(np.uint8)
    )
