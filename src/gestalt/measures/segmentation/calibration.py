"""Calibration: the threshold of a background rule, chosen on images that are not scored.  C
classes, T thresholds, H W pixels.

Thresholds tuned on the evaluation split flatter a method; here the chosen threshold is reported
beside the best possible one.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.confusion import divide_or_nan
from gestalt.measures.segmentation.engine import TopDown
from gestalt.support.arrays import Floats
from gestalt.support.devices import bin_counts, send
from gestalt.support.label_values import ignored_value

STEPS = 200
"""Equal steps over the whole range; one more threshold than steps is tried."""


class Choice(NamedTuple):
    """A threshold and its score.

    Attributes:
        threshold: the value.
        miou: its mean IoU, [0, 1].
    """

    threshold: float
    miou: float


class Sweep:
    """Counts of every threshold at once, from one pass over a set.

    A pixel's score and its class before the threshold give its class at any threshold, so
    histograms of scores cover all thresholds.

    Args:
        protocol: whose threshold is swept.
        classes: C.
        background: the class of pixels below the threshold.

    Raises:
        ValueError: the protocol has no threshold that acts on a pixel's score alone.
    """

    def __init__(self, protocol: TopDownProtocol, *, classes: int, background: int) -> None:
        if protocol.background not in ("threshold", "probability", "constant"):
            why = (
                "its threshold is relative to each window"
                if protocol.background == "affinity"
                else "it has no threshold"
            )
            raise ValueError(
                f"protocol {protocol.name}: background={protocol.background} cannot be calibrated: "
                f"{why}; choose evaluation.protocol=mmseg-448/tcl, for example, or "
                "evaluation.background=threshold evaluation.threshold=0"
            )
        least = -1.0 if protocol.background == "threshold" and protocol.scores == "cosine" else 0.0
        self.thresholds: Floats = np.linspace(least, 1, STEPS + 1)
        self.classes = classes
        self.background = background
        # a score that equals the channel is background
        self._or_equal = protocol.background == "constant"
        # pixels by bin of the score and class: those whose class before the threshold is right, by
        # that class, and by the true one; the last class is of pixels that do not count
        self._counts = torch.zeros(3, STEPS + 2, classes + 1, dtype=torch.int64)
        self._bounds = torch.as_tensor(self.thresholds, dtype=torch.float32)

    def update(self, segmented: TopDown, label: Tensor) -> None:
        """Count an image; ``label`` is (H, W) with the ``ignored_value`` of its classes."""
        # both are on the device from the first image on
        self._counts, self._bounds = (
            send(part, label.device) for part in (self._counts, self._bounds)
        )
        ignored = label == ignored_value(self.classes)
        truth = label.long().masked_fill(ignored, self.classes)
        predicted = segmented.classes_before_threshold.long().masked_fill(ignored, self.classes)
        # number of thresholds that the score reaches
        level = torch.bucketize(
            segmented.score.float().contiguous(),
            self._bounds,
            right=not self._or_equal,
        )
        right = truth.masked_fill(predicted != truth, self.classes)
        for counts, named in zip(self._counts, (right, predicted, truth), strict=True):
            places = level * counts.shape[1] + named
            counts += bin_counts(places, counts.numel()).reshape(counts.shape)

    def miou(self) -> Floats:
        """Compute the mean IoU (T,) at each threshold, over the classes in truth or prediction."""
        *by_class, truth = self._counts[..., : self.classes].cpu().numpy()
        # at or above each
        right, predicted = (np.cumsum(counts[::-1], axis=0)[::-1][1:] for counts in by_class)
        # and those below it
        predicted[:, self.background] += truth.sum() - predicted.sum(axis=1)
        right[:, self.background] += np.cumsum(truth[:, self.background])[:-1]
        return np.nanmean(divide_or_nan(right, predicted + truth.sum(axis=0) - right), axis=1)

    def best(self) -> Choice:
        """Return the threshold with the highest mean IoU; ties go to the lowest."""
        return self.at(float(self.thresholds[np.nanargmax(self.miou())]))

    def at(self, threshold: float) -> Choice:
        """Return the nearest threshold that was tried, and its mean IoU."""
        position = int(np.abs(self.thresholds - threshold).argmin())
        return Choice(float(self.thresholds[position]), miou=float(self.miou()[position]))
