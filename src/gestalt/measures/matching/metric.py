"""Matched IoU: clusters of a whole set, named after classes by one assignment.  N images, K
clusters, C classes, H W pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gestalt.evaluation.confusion import labelled_pixels
from gestalt.measures.masks import MaskScore
from gestalt.measures.rows import ImageMetric
from gestalt.support.arrays import Ints

NO_CLASS = -1
"""The class of an unmatched cluster."""


@dataclass(kw_only=True)
class MatchedScore(MaskScore):
    """The result of ``MatchedIoU``: counts under the one match; its confusion matrix is (K, C),
    clusters by classes.

    Attributes:
        image_counts: (N, 3, C) int64, the counts of each image, for paired intervals over images.
        match: (K,) int64, the class of each cluster, or ``NO_CLASS``.
    """

    image_counts: Ints
    match: Ints


def best_match(confusion: Ints) -> Ints:
    """Assign clusters to classes (K,), each at most once, with the most pixels right; ``NO_CLASS``
    for unmatched clusters.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(confusion, maximize=True)
    match = np.full(len(confusion), NO_CLASS, dtype=np.int64)
    match[rows] = columns
    return match


def matched_counts(confusion: Ints, *, match: Ints) -> Ints:
    """Turn confusion (..., K, C) under a match into counts (..., 3, C): intersection, prediction,
    truth.
    """
    counts = np.zeros((*confusion.shape[:-2], 3, confusion.shape[-1]), dtype=np.int64)
    named = match != NO_CLASS
    classes = match[named]
    counts[..., 0, classes] = confusion[..., named, classes]
    counts[..., 1, classes] = confusion[..., named, :].sum(axis=-1)
    counts[..., 2, :] = confusion.sum(axis=-2)
    return counts


class MatchedIoU(ImageMetric):
    """Mean IoU of a whole set's clusters with the classes that they match.

    The state is a list of (1, 1 + K * C) int64 rows: image id, confusion matrix.

    Args:
        clusters: K.
        classes: C.

    Raises:
        ValueError: as ``labelled_pixels``, with the sample's id.

    Source: mhamilton723/STEGO at 009bc45, utils.py (UnsupervisedMetrics): one assignment over the
    summed confusion matrix.
    """

    def __init__(self, clusters: int, classes: int) -> None:
        super().__init__(1 + clusters * classes)
        self.shape = (clusters, classes)

    def rows_of(self, prediction: Tensor, label: Tensor, index: int) -> Tensor:
        """Count an image."""
        clusters, classes = self.shape
        truth, named = labelled_pixels(prediction, label, classes=classes, predicted=clusters)
        matrix = (named * classes + truth).bincount(minlength=clusters * classes)
        return torch.cat([matrix.new_tensor([index]), matrix]).unsqueeze(0)

    def compute(self) -> MatchedScore:
        """Compute the set's score over all ranks: sum, and match once."""
        rows = self.unique_rows()
        images = rows[:, 1:].reshape(-1, *self.shape)
        total: Ints = images.sum(axis=0, dtype=np.int64)
        match = best_match(total)
        counts = matched_counts(images, match=match)
        return MatchedScore(
            sample_id=rows[:, 0],
            confusion=total,
            counts=counts.sum(axis=0),
            image_counts=counts,
            match=match,
        )
