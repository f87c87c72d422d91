"""Matched IoU: clusters of a whole set, named after classes by one assignment.  N images, K
clusters, C classes, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.evaluation.confusion import confusion_matrix
from gestalt.measures.masks import MaskScore
from gestalt.measures.rows import PADDING, SetMetric, counted_once, gathered, ids_of, naming

NO_CLASS = -1
"""The class of an unmatched cluster."""


@dataclass(kw_only=True)
class MatchedScore(MaskScore):
    """The result of ``MatchedIoU``: counts under the one match; its confusion matrix is (K, C),
    clusters by classes.

    Attributes:
        by_image: (N, 3, C) int64, the counts of each image.
        match: (K,) int64, the class of each cluster, or ``NO_CLASS``.
    """

    by_image: NDArray[np.int64]
    match: NDArray[np.int64]

    @property
    def image_counts(self) -> NDArray[np.int64]:
        """The counts of each image."""
        return self.by_image


def best_match(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assign clusters to classes (K,), each at most once, with the most pixels right; ``NO_CLASS``
    for unmatched clusters.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(confusion, maximize=True)
    match = np.full(len(confusion), NO_CLASS, dtype=np.int64)
    match[rows] = columns
    return match


def matched_counts(confusion: NDArray[np.int64], *, match: NDArray[np.int64]) -> NDArray[np.int64]:
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


def matched_score(sample_id: NDArray[np.int64], confusion: NDArray[np.int64]) -> MatchedScore:
    """Drop padding, count each id once, sum, match once.  sample_id (M,), confusion (M, K, C), in
    any order.
    """
    once = counted_once(sample_id)
    images = confusion[once]
    total: NDArray[np.int64] = images.sum(axis=0, dtype=np.int64)
    match = best_match(total)
    counts = matched_counts(images, match=match)
    return MatchedScore(sample_id=sample_id[once], by_image=counts, confusion=total, match=match)


class MatchedIoU(SetMetric):
    """Mean IoU of a whole set's clusters with the classes that they match.

    States are lists of (n,) ids and (n, K, C) int64 confusion matrices.

    Args:
        clusters: K.
        classes: C.

    Raises:
        ValueError: as ``confusion_of``, with the sample's id.

    Source: mhamilton723/STEGO at 009bc45, utils.py (UnsupervisedMetrics): one assignment over the
    summed confusion matrix.
    """

    sample_id: list[Tensor]
    confusion: list[Tensor]

    def __init__(self, clusters: int, classes: int) -> None:
        super().__init__()
        self.shape = (clusters, classes)
        self.add_rows(
            sample_id=torch.tensor([PADDING]),
            confusion=torch.zeros(1, *self.shape, dtype=torch.int64),
        )

    def update(
        self, clusters: Sequence[Tensor], label: Sequence[Tensor], sample_id: Tensor
    ) -> None:
        """Count a batch of images of any sizes; ``PADDING`` is not scored."""
        ids = ids_of(sample_id, device=self.device)
        rows = []
        for predicted, truth, index in zip(clusters, label, ids.tolist(), strict=True):
            with naming(index):
                rows.append(
                    confusion_matrix(
                        predicted, truth, classes=self.shape[1], predicted=self.shape[0]
                    ).T
                )
        self.sample_id.append(ids)
        self.confusion.append(torch.stack(rows).to(self.device))

    def compute(self) -> MatchedScore:
        """Compute the set's score over all ranks."""
        return matched_score(gathered(self.sample_id), gathered(self.confusion))
