"""Pixels counted by truth and prediction, and the scores of these counts, of an image and of a
set.  N images, C classes, H W pixels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gestalt.support.arrays import Array, Floats, Ints
from gestalt.support.label_values import ignored_value


def pixel_counts(prediction: Array, label: Array, classes: int) -> Ints:
    """Count intersection, prediction and truth of each class in the labelled pixels of one image,
    (3, C) int64.

    Args:
        prediction: (H, W) integers; those that are no class count for none.
        label: (H, W) integers in [0, C), or the ``ignored_value`` of C.
        classes: C.
    """
    labelled = label != ignored_value(classes)
    prediction, label = prediction[labelled], label[labelled]
    return np.stack(
        [
            np.bincount(values, minlength=classes)[:classes]
            for values in (label[prediction == label], prediction, label)
        ]
    )


def iou_of(counts: Ints) -> Floats:
    """Return the IoU (..., C) of counts (..., 3, C) in float64; nan where a class is in neither
    truth nor prediction.
    """
    intersection = counts[..., 0, :]
    return divide_or_nan(intersection, counts[..., 1, :] + counts[..., 2, :] - intersection)


def image_miou(counts: Ints) -> Floats:
    """Return each image's mean IoU (N,) over the classes in its truth or prediction, of counts
    (N, 3, C); nan without any.
    """
    return mean_without_nan(iou_of(counts), axis=1)


def mean_without_nan(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """Return the mean over some axes of the values that are not nan; nan where all are."""
    present = ~np.isnan(values)
    return divide_or_nan(np.where(present, values, 0.0).sum(axis=axis), present.sum(axis=axis))


def divide_or_nan(part: Array, whole: Array) -> Floats:
    """Divide in float64; nan where ``whole`` is 0."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


@dataclass(kw_only=True)  # not frozen: torchmetrics copies a result field by field
class MaskScore:
    """Base of the scores of a set's label maps: counts of pixels as NumPy arrays, the same on every
    rank.

    Attributes:
        counts: (3, C) int64, pixels of intersection, prediction and truth over the set.
    """

    counts: Ints

    @cached_property
    def iou(self) -> Floats:
        """(C,) float64; nan for a class in neither truth nor prediction, 0 for one that is only
        predicted.
        """
        return iou_of(self.counts)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction, [0, 1]; nan without any."""
        present = ~np.isnan(self.iou)
        return float(self.iou[present].mean()) if present.any() else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right, [0, 1]; nan without labelled pixels."""
        labelled = int(self.counts[2].sum())
        return int(self.counts[0].sum()) / labelled if labelled else float("nan")


def class_keys(names: Sequence[str]) -> list[str]:
    """Return the class names; a name that several classes share is followed by the class index."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} {index}" for index, name in enumerate(names)]


def mask_values(names: Sequence[str], scores: Mapping[str, MaskScore]) -> dict[str, float]:
    """Return the mIoU of the model and of each baseline, pixel accuracy, and ``iou/<class>``."""
    model = scores["model"]
    values = {"miou": model.miou, "pixel_accuracy": model.pixel_accuracy}
    values |= {f"miou_{key}": score.miou for key, score in scores.items() if key != "model"}
    ious = zip(class_keys(names), model.iou.tolist(), strict=True)
    return values | {f"iou/{key}": iou for key, iou in ious}


def matched_values(names: Sequence[str], scores: Mapping[str, MaskScore]) -> dict[str, float]:
    """Return ``mask_values`` under the names of the matching measure, ``matched_...``."""
    return {
        f"matched/{key}" if "/" in key else f"matched_{key}": value
        for key, value in mask_values(names, scores).items()
    }


def mask_entry(scores: Mapping[str, MaskScore]) -> dict[str, Any]:
    """Return the model's IoU of each class, None for nan, and the counts of the model and the
    baselines, for a JSON record.
    """
    return {
        "iou": [None if np.isnan(value) else value for value in scores["model"].iou.tolist()],
        "counts": {key: score.counts.tolist() for key, score in scores.items()},
        "counts_rows": ["intersection", "prediction", "truth"],
    }
