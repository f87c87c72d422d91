"""The images that a model segments best and worst, kept with its predictions for a report.  N
images.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from gestalt.evaluation.pictures import pil_image
from gestalt.evaluation.predictions import ScoredImage, write_predictions
from gestalt.measures.measured import Measured
from gestalt.support.arrays import Floats, Ints

PER_END = 4
"""Images at each end; their predictions are kept while the set is scored, so that a report needs
neither the model nor the data.
"""

LONGEST = 512
"""Pixels: the longer side of an image that is kept for a report."""


def best_and_worst(iou: Floats, ids: Ints) -> tuple[list[int], list[int]]:
    """Return the positions of the best images, highest first, and of the worst, lowest first; no
    image is in both, nan in neither.

    There are ``PER_END`` at each end; of fewer than twice as many images the best get the larger
    half.  Among equal values the lower id comes first.

    Args:
        iou: (N,) of each image.
        ids: (N,) of the images, all different.
    """
    valued = np.flatnonzero(~np.isnan(iou))
    falling, rising = (
        valued[np.lexsort((ids[valued], sign * iou[valued]))].tolist() for sign in (-1, 1)
    )
    best = falling[: min(PER_END, (len(falling) + 1) // 2)]
    return best, [position for position in rising if position not in best][:PER_END]


Extremes = dict[int, tuple[float, ScoredImage]]
"""The best and the worst images so far, each with its mean IoU, by id."""


def add_extreme(extremes: Extremes, shown: ScoredImage, *, iou: float) -> Extremes:
    """Return the images with one more; of more than ``2 * PER_END``, only the best and the worst
    ``PER_END``, none without a mean IoU.
    """
    extremes = {**extremes, shown.sample_id: (iou, shown)}
    ids = np.array(list(extremes))
    best, worst = best_and_worst(np.array([value for value, _ in extremes.values()]), ids)
    return {index: extremes[index] for index in ids[best + worst].tolist()}


def write_extremes(folder: Path, scorers: Iterable[Measured]) -> None:
    """Write the predictions of every scorer to ``<folder>/<benchmark>.npz``, images at ``LONGEST``
    at most.
    """
    for scorer in scorers:
        for name, predictions in scorer.predictions().items():
            write_predictions(
                folder / f"{name}.npz",
                predictions._replace(images=tuple(map(_reduced, predictions.images))),
            )


def _reduced(scored: ScoredImage) -> ScoredImage:
    """Reduce an image for a picture: the photograph smoothly, the masks by the nearest pixel."""
    height, width = scored.label.shape
    factor = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.asarray(pil_image(scored.image).resize(size, Image.Resampling.BICUBIC))
    prediction, label = (
        np.asarray(Image.fromarray(mask.numpy()).resize(size, Image.Resampling.NEAREST))
        for mask in (scored.prediction, scored.label)
    )
    return scored._replace(image=image.transpose(2, 0, 1), prediction=prediction, label=label)
