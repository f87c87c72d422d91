"""What the measures of label maps share: keys of classes, and their part of a record.  C classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class MaskScore(Protocol):
    """A score with counts of each class."""

    @property
    def iou(self) -> NDArray[np.float64]:
        """(C,), nan for a class that does not occur."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """(3, C), pixels of intersection, prediction and truth."""


def class_keys(names: Sequence[str]) -> list[str]:
    """Return the class names, each with its index where a set gives two classes one name."""
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} {index}" for index, name in enumerate(names)]


def class_values(names: Sequence[str], score: MaskScore) -> dict[str, float]:
    """Return ``iou/<class>`` and its value."""
    return {f"iou/{key}": float(iou) for key, iou in zip(class_keys(names), score.iou, strict=True)}


def mask_entry(scores: Mapping[str, MaskScore]) -> dict[str, Any]:
    """Return the model's IoU of each class, None for nan, and the counts of the model and the baselines, for a JSON record."""
    return {
        "iou": [None if np.isnan(value) else value for value in scores["model"].iou.tolist()],
        "counts": {key: score.counts.tolist() for key, score in scores.items()},
        "counts_rows": ["intersection", "prediction", "truth"],
    }
