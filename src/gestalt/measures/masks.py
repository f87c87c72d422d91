"""Scores of label maps, computed from counts of pixels.  N images, C classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gestalt.measures.evaluation.confusion import iou_of
from gestalt.support.arrays import Floats, Ints


@dataclass(kw_only=True)  # not frozen: torchmetrics copies a result field by field
class MaskScore:
    """Base of the scores of a set's label maps: counts of pixels as NumPy arrays, the same on every
    rank.

    Attributes:
        sample_id: (N,) int64, ascending.
        confusion: int64, labelled pixels of the set, by truth and prediction.
        counts: (3, C) int64, pixels of intersection, prediction and truth over the set.
    """

    sample_id: Ints
    confusion: Ints
    counts: Ints

    @property
    def images(self) -> int:
        """The number of images that were counted."""
        return len(self.sample_id)

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
