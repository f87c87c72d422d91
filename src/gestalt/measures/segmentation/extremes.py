"""The images of a set that are segmented best and worst: found without keeping the others, and
reduced for a report.  H W pixels.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from gestalt.measures.evaluation.pictures import ScoredImage, pil_image

PER_END = 4
"""Images at each end; their predictions are kept while the set is scored, so that a report needs
neither the model nor the data.
"""

MAX_LONG_SIDE = 512
"""Pixels: the longer side of an image that is kept for a report."""


def best_and_worst(iou: Mapping[int, float]) -> tuple[list[int], list[int]]:
    """Return the ids of the best images, highest first, and of the worst, lowest first; no image is
    in both, nan in neither.

    There are ``PER_END`` at each end; of fewer than twice as many images the best get the larger
    half.  Among equal values the lower id comes first.

    Args:
        iou: of each image by its id.
    """
    valued = sorted(index for index, value in iou.items() if value == value)  # nan is not
    best = sorted(valued, key=iou.__getitem__, reverse=True)
    best = best[: min(PER_END, (len(valued) + 1) // 2)]
    worst = [index for index in sorted(valued, key=iou.__getitem__) if index not in best]
    return best, worst[:PER_END]


Extremes = dict[int, tuple[float, ScoredImage]]
"""The best images so far and then the worst, each with its mean IoU, by id."""


def extremes_of(images: Extremes) -> Extremes:
    """Return the best images and then the worst; none without a mean IoU."""
    best, worst = best_and_worst({index: iou for index, (iou, _) in images.items()})
    return {index: images[index] for index in best + worst}


def reduced(scored: ScoredImage) -> ScoredImage:
    """Reduce an image for a picture: the photograph smoothly, the masks by the nearest pixel."""
    height, width = scored.label.shape
    factor = min(1.0, MAX_LONG_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = np.asarray(pil_image(scored.image).resize(size, Image.Resampling.BICUBIC))
    prediction, label = (
        np.asarray(Image.fromarray(mask.numpy()).resize(size, Image.Resampling.NEAREST))
        for mask in (scored.prediction, scored.label)
    )
    return scored._replace(image=image.transpose(2, 0, 1), prediction=prediction, label=label)
