"""The images that a model segments best and worst, kept with its predictions for a report.  N images."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gestalt.evaluation.predictions import Kept, write_predictions
from gestalt.measures.measured import Measured
from gestalt.measures.shown import Shown, gathered_on_first

KEPT = 4
"""Images at each end; their predictions are kept while the set is scored, so that a report needs neither the model nor the data."""

LONGEST = 512
"""Pixels: the longer side of an image that is kept for a report."""


def ends(iou: NDArray[np.float64], ids: NDArray[np.int64], *, count: int = KEPT) -> tuple[list[int], list[int]]:
    """Return the positions of the best images, highest first, and of the worst, lowest first; no image is in both, nan in neither.

    Among equal values the lower id comes first.

    Args:
        iou: (N,) of each image.
        ids: (N,) of the images, all different.
        count: largest number at each end; of fewer than ``2 * count`` images the best get the larger half.
    """
    valued = np.flatnonzero(~np.isnan(iou))
    falling = valued[np.lexsort((ids[valued], -iou[valued]))].tolist()
    rising = valued[np.lexsort((ids[valued], iou[valued]))].tolist()
    best = falling[: min(count, (len(falling) + 1) // 2)]
    return best, [position for position in rising if position not in best][:count]


class Extremes:
    """The best and the worst images so far, on one rank.

    Attributes:
        gathered: those of all ranks, on the first rank, in no order; empty before ``gather`` and on other ranks.
    """

    def __init__(self) -> None:
        self.gathered: list[Shown] = []
        self._kept: list[tuple[float, Shown]] = []

    def may_rank(self, iou: float) -> bool:
        """Return True if an image of this value may be among the ends; False is final."""
        values = sorted(value for value, _ in self._kept)
        return not np.isnan(iou) and (len(values) < 2 * KEPT or iou >= values[-KEPT] or iou <= values[KEPT - 1])

    def add(self, iou: float, shown: Shown) -> None:
        """Keep an image that may rank, and drop the one that no longer does."""
        self._kept = [(value, image) for value, image in self._kept if image.sample_id != shown.sample_id] + [(iou, shown)]
        if len(self._kept) > 2 * KEPT:
            values, ids = zip(*((value, image.sample_id) for value, image in self._kept), strict=True)
            best, worst = ends(np.array(values), np.array(ids))
            self._kept = [self._kept[position] for position in (*best, *worst)]

    def gather(self) -> None:
        """Gather the images of all ranks on the first; every rank must call it."""
        self.gathered = gathered_on_first(self.images())
        self._kept = []

    def images(self) -> list[Shown]:
        """Return this rank's images, in no order."""
        return [image for _, image in self._kept]

    def in_order(self, ids: Sequence[int]) -> list[Shown]:
        """Return the gathered images with these ids."""
        by_id = {image.sample_id: image for image in self.gathered}
        return [by_id[index] for index in ids]


def write_extremes(folder: Path, scorers: Iterable[Measured]) -> None:
    """Write the predictions of every scorer to ``<folder>/<set>.npz``, images at ``LONGEST`` at most."""
    for scorer in scorers:
        for name, predictions in scorer.predictions().items():
            write_predictions(folder / f"{name}.npz", predictions._replace(images=tuple(map(_reduced, predictions.images))))


def _reduced(kept: Kept) -> Kept:
    """Reduce an image for a picture: the photograph smoothly, the masks by the nearest pixel."""
    photograph = Image.fromarray(kept.image.transpose(1, 2, 0))
    height, width = kept.label.shape
    factor = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    masks = [np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) for mask in (kept.prediction, kept.label)]
    image = np.array(photograph.resize(size, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    return Kept(kept.title, image, prediction=masks[0], label=masks[1])
