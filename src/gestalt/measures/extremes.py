"""Extremes: the images that a model segments best and worst, with its predictions, for a report.  N images, C classes, H W pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.measures.callback import Shown

KEPT = 4
"""Images at each end; their predictions are kept while the set is scored, so that a report needs neither the model nor the data."""


class Ends(NamedTuple):
    """Positions in a list of images.

    Attributes:
        best: highest first.
        worst: lowest first; none that is among the best.
    """

    best: list[int]
    worst: list[int]


def ends(iou: NDArray[np.float64], ids: NDArray[np.int64], *, count: int = KEPT) -> Ends:
    """The positions of the highest and the lowest values; of equal ones the lower id comes first, and nan is in neither.

    Args:
        iou: (N,) of each image.
        ids: (N,) of the images, all different.
        count: at most so many at each end; of fewer than two times as many images the best have the larger half.
    """
    valued = np.flatnonzero(~np.isnan(iou))
    falling = valued[np.lexsort((ids[valued], -iou[valued]))].tolist()
    rising = valued[np.lexsort((ids[valued], iou[valued]))].tolist()
    best = falling[: min(count, (len(falling) + 1) // 2)]
    return Ends(best, worst=[position for position in rising if position not in best][:count])


class Extremes:
    """The ends of what was seen so far, on one rank."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, Shown]] = []

    def wants(self, iou: float) -> bool:
        """Whether an image of this value could be among the ends; it need not be, but one that is not wanted is not."""
        values = sorted(value for value, _ in self._kept)
        return not np.isnan(iou) and (len(values) < 2 * KEPT or iou >= values[-KEPT] or iou <= values[KEPT - 1])

    def add(self, iou: float, shown: Shown) -> None:
        """Keep an image that is wanted, and drop the one that it puts out."""
        self._kept = [one for one in self._kept if one[1].sample_id != shown.sample_id] + [(iou, shown)]
        if len(self._kept) > 2 * KEPT:
            best, worst = ends(np.array([value for value, _ in self._kept]), np.array([one.sample_id for _, one in self._kept]))
            self._kept = [self._kept[position] for position in (*best, *worst)]

    def images(self) -> list[Shown]:
        """Those kept, in no order."""
        return [shown for _, shown in self._kept]


def in_order(images: Sequence[Shown], *, ids: Sequence[int]) -> list[Shown]:
    """The images with these ids."""
    found = {one.sample_id: one for one in images}
    return [found[index] for index in ids]
