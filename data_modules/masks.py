"""Masks: stored values of a label file, and what class each stands for.  H W pixels."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data_modules.batches import IGNORE

_VALUES = 256


class ValueMap:
    """Which class each value of an 8-bit mask stands for.

    Args:
        classes: value -> class.
        ignored: values that are not scored; every other value is an error.
    """

    def __init__(self, classes: Mapping[int, int], *, ignored: Collection[int] = ()) -> None:
        """Make the table.  Returns by ``read`` are uint8, so that classes are at most 254."""
        assert not set(classes) & set(ignored)
        assert max(classes.values()) < IGNORE
        self._known = np.zeros(_VALUES, dtype=np.bool_)
        self._known[[*classes, *ignored]] = True
        self._class = np.full(_VALUES, IGNORE, dtype=np.uint8)
        self._class[list(classes)] = list(classes.values())

    def __call__(self, values: NDArray[np.uint8], *, path: Path) -> Tensor:
        """The classes of a mask's values, (H, W) uint8, ``IGNORE`` where they are not scored.

        Raises:
            ValueError: a value stands for nothing; names the file.
        """
        present = np.flatnonzero(np.bincount(values.reshape(-1), minlength=_VALUES))
        wrong = present[~self._known[present]].tolist()
        if wrong:
            raise ValueError(f"{path} holds values {wrong}; it must hold {_ranges(np.flatnonzero(self._known).tolist())} only")
        return torch.from_numpy(self._class[values])


def read_mask(path: Path, *, image: Tensor, modes: Sequence[str] = ("P", "L")) -> NDArray[np.uint8]:
    """A mask's stored values, never converted: palette indices are the values.  Returns (H, W) uint8, (H, W, 3) for RGB.

    Args:
        path: of a PNG.
        image: (3, H, W), which the mask must fit.
        modes: Pillow's names of those that the layout has.

    Raises:
        ValueError: another mode, or another size than the image.
    """
    with Image.open(path) as mask:
        if mask.mode not in modes:
            raise ValueError(f"{path} has mode {mask.mode}; a mask of this layout has mode {' or '.join(modes)}")
        if mask.size != (image.shape[2], image.shape[1]):
            raise ValueError(f"{path} is {mask.width}x{mask.height}, its image {image.shape[2]}x{image.shape[1]}")
        return np.array(mask, dtype=np.uint8)


def _ranges(values: list[int]) -> str:
    """Ascending values in words: ``0-20, 255``."""
    starts = [value for value in values if value - 1 not in values]
    ends = [value for value in values if value + 1 not in values]
    return ", ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
