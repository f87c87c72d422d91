"""Masks: stored values of a label file, and what class each stands for.  H W pixels."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_modules.batches import IGNORE
from data_modules.pixels.photographs import Undecodable, decoding

_VALUES = 2**16


class ValueMap:
    """Which class each value of a mask of 8 or 16 bits stands for.

    Args:
        classes: value -> class.
        ignored: values that are not scored; every other value is an error.
    """

    def __init__(self, classes: Mapping[int, int], *, ignored: Collection[int] = ()) -> None:
        """Make the table."""
        assert not set(classes) & set(ignored)
        assert max(classes.values()) < IGNORE
        self._known = np.zeros(_VALUES, dtype=np.bool_)
        self._known[[*classes, *ignored]] = True
        self._class = np.full(_VALUES, IGNORE, dtype=np.uint8)
        self._class[list(classes)] = list(classes.values())

    def __call__(self, values: NDArray[np.integer[Any]], *, path: Path) -> Tensor:
        """The classes of a mask's values, (H, W) uint8, ``IGNORE`` where they are not scored.

        Raises:
            ValueError: a value stands for nothing; names the file.
        """
        present = np.flatnonzero(np.bincount(values.reshape(-1)))
        wrong = present[~self._known[present]].tolist()
        if wrong:
            raise ValueError(f"{path} holds values {wrong}; it must hold {_ranges(np.flatnonzero(self._known).tolist())} only")
        return torch.from_numpy(self._class[values])

    def grouped(self, groups: Sequence[int]) -> "ValueMap":
        """The same values, where class i of this map is class ``groups[i]`` of the new one."""
        scored = self._class != IGNORE
        classes = {value: groups[self._class[value]] for value in np.flatnonzero(scored).tolist()}
        return ValueMap(classes, ignored=np.flatnonzero(self._known & ~scored).tolist())


def read_mask(path: Path, *, image: Tensor | None, modes: Sequence[str] = ("P", "L")) -> NDArray[Any]:
    """A mask's stored values, never converted: palette indices are the values.  Returns (H, W) integers, (H, W, 3) for RGB.

    Args:
        path: of a PNG.
        image: (3, H, W), which the mask must fit; None where it is not read.
        modes: Pillow's names of those that the layout has.

    Raises:
        ValueError: it cannot be read; another mode; or another size than the image.
    """
    try:
        with decoding(), Image.open(path) as mask:
            values, mode = np.array(mask), mask.mode
    except Undecodable as error:
        raise ValueError(f"{path}: {error}") from error
    if mode not in modes:
        raise ValueError(f"{path} has mode {mode}; a mask of this layout has mode {' or '.join(modes)}")
    if image is not None and values.shape[:2] != image.shape[1:]:
        raise ValueError(f"{path} is {values.shape[1]}x{values.shape[0]}, its image {image.shape[2]}x{image.shape[1]}")
    return values


def _ranges(values: list[int]) -> str:
    """Ascending values in words: ``0-20, 255``."""
    starts = [value for value in values if value - 1 not in values]
    ends = [value for value in values if value + 1 not in values]
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def objects(values: NDArray[np.integer[Any]], *, kept: NDArray[np.integer[Any]], void: NDArray[np.bool_], path: Path) -> Tensor:
    """An instance map: 1..n the kept values in their order, ``IGNORE`` where void, 0 elsewhere.  Returns (H, W) uint8.

    Args:
        values: (H, W), a number an object.
        kept: those numbers that are objects, ascending.
        void: (H, W), what is neither object nor background.
        path: of the file, for people.

    Raises:
        ValueError: more objects than a byte can tell apart.
    """
    if len(kept) >= IGNORE:
        raise ValueError(f"{path} holds {len(kept)} objects; at most {IGNORE - 1} can be told apart")
    rank = np.searchsorted(kept, values)
    found = kept[rank.clip(max=len(kept) - 1)] == values if len(kept) else np.zeros_like(void)
    return torch.from_numpy(np.where(void, IGNORE, np.where(found, rank + 1, 0)).astype(np.uint8))
