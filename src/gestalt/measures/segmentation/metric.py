"""Mean IoU from integer counts of each image.  N samples, C classes, H W pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.evaluation.confusion import confusion_matrix, counts_of
from gestalt.measures.masks import MaskScore
from gestalt.measures.rows import PADDING, SetMetric, counted_once, gathered, ids_of, naming
from gestalt.support.label_values import ignored_value

MOST_CLASSES = 4_096
"""The largest number of classes that is scored; its confusion matrix takes 128 MiB."""

ROW = 5
"""Integers of a row of counts: the image's id, a class, and its pixels of intersection, prediction
and truth in the image.
"""


@dataclass(kw_only=True)
class SegmentationScore(MaskScore):
    """The result of ``MeanIoU``; its confusion matrix is (C, C), truth by prediction, or (C, C +
    1), the last column without a class.

    Attributes:
        rows: (m, ``ROW``) int64, the counts of the classes that occur in each image's truth or
            prediction, a few of many.
        ignored_pixels: the number of pixels of the set that were not scored.
    """

    rows: NDArray[np.int64]
    ignored_pixels: int

    @cached_property
    def image_counts(self) -> NDArray[np.int64]:
        """(N, 3, C) int64, the counts of each image, made of the rows when they are first asked
        for.
        """
        return dense_counts(self.rows, sample_id=self.sample_id, classes=len(self.confusion))

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(3, C) int64, pixels of intersection, prediction and truth over the set."""
        counts = np.zeros((3, len(self.confusion)), dtype=np.int64)
        np.add.at(counts.T, self.rows[:, 1], self.rows[:, 2:])
        return counts


def sparse_rows(counts: Tensor, *, index: int) -> Tensor:
    """Return the rows of an image's counts (3, C): (m, ``ROW``), one for each class in its truth or
    prediction.
    """
    present = counts[1:].any(dim=0).nonzero()
    return torch.cat([torch.full_like(present, index), present, counts.T[present[:, 0]]], dim=1)


def dense_counts(
    rows: NDArray[np.int64], *, sample_id: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Return the counts (N, 3, C) of the images with these ids, which rise; rows of other ids are
    left out.
    """
    counts = np.zeros((len(sample_id), 3, classes), dtype=np.int64)
    known = rows[np.isin(rows[:, 0], sample_id)]
    counts[np.searchsorted(sample_id, known[:, 0]), :, known[:, 1]] = known[:, 2:]
    return counts


def segmentation_score(
    sample_id: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    ignored: NDArray[np.int64],
    confusion: NDArray[np.int64],
) -> SegmentationScore:
    """Drop padding, count each id once.  sample_id (M,), rows (m, ``ROW``), ignored (M,) in any
    order; confusion of the set, summed.

    Raises:
        RuntimeError: the matrix and the images count different pixels: two ranks scored one image.
    """
    once = counted_once(sample_id)
    ignored_pixels = int(ignored[once].sum())
    rows = np.unique(rows[rows[:, 0] != PADDING], axis=0)
    score = SegmentationScore(
        sample_id=sample_id[once], rows=rows, confusion=confusion, ignored_pixels=ignored_pixels
    )
    summed = np.stack(
        [confusion.diagonal(), confusion.sum(axis=0)[: len(confusion)], confusion.sum(axis=1)]
    )
    if not np.array_equal(summed, score.counts):
        raise RuntimeError(
            "the confusion matrix and the images' counts differ: an image was scored by two ranks; "
            "deal each to one"
        )
    return score


class MeanIoU(SetMetric):
    """Mean intersection over union of a whole set, over its classes.

    States are lists of (n,) ids, (m, ``ROW``) int64 counts and (n,) ignored pixels, and one (C, C)
    int64 matrix, which counts each image once and no padding.  The memory of an image's counts
    grows with the classes in it, not with C.

    Args:
        classes: C, 2 to ``MOST_CLASSES``.
        unnamed: True if predicted pixels may have no class, the ``ignored_value`` of C: they count
            in the union of their true class, and the matrix is (C, C + 1).

    Raises:
        ValueError: as ``confusion_matrix``, with the sample's id.

    Source: the set-wide histogram and nanmean of the mmsegmentation evaluators.
    """

    sample_id: list[Tensor]
    counts: list[Tensor]
    ignored: list[Tensor]
    confusion: Tensor

    def __init__(self, classes: int, *, unnamed: bool = False) -> None:
        super().__init__()
        if not 2 <= classes <= MOST_CLASSES:
            raise ValueError(
                f"{classes} classes: a segmentation has 2 to {MOST_CLASSES}, since its confusion "
                "matrix is kept whole"
            )
        self.classes = classes
        self.unnamed = unnamed
        nothing = torch.tensor([[PADDING] + [0] * (ROW - 1)])
        self.add_rows(sample_id=nothing[:, 0], counts=nothing, ignored=nothing[:, 1])
        self.add_state(
            "confusion",
            default=torch.zeros(classes, classes + unnamed, dtype=torch.int64),
            dist_reduce_fx="sum",
        )
        self._seen = {PADDING}

    def update(
        self,
        prediction: Tensor | Sequence[Tensor],
        label: Tensor | Sequence[Tensor],
        sample_id: Tensor | int,
    ) -> None:
        """Count one image, or a batch of images of any sizes.

        Args:
            prediction: (H, W), or B of them.
            label: (H, W) with the ``ignored_value`` of C, or B of them.
            sample_id: the id in the set, or (B,) of them; ``PADDING`` is not scored.
        """
        predictions = [prediction] if isinstance(prediction, Tensor) else prediction
        labels = [label] if isinstance(label, Tensor) else label
        ids = ids_of(sample_id, device=self.device)
        rows, ignored = [], []
        for predicted, truth, index in zip(predictions, labels, ids.tolist(), strict=True):
            with naming(index):
                matrix = confusion_matrix(
                    predicted, truth, classes=self.classes, unnamed=self.unnamed
                )
            rows.append(sparse_rows(counts_of(matrix), index=index))
            ignored.append((truth == ignored_value(self.classes)).sum())
            if index not in self._seen:
                self.confusion += matrix.to(self.device)
            self._seen.add(index)
        self.sample_id.append(ids)
        self.counts.append(torch.cat(rows).to(self.device))
        self.ignored.append(torch.stack(ignored).to(self.device))

    def reset(self) -> None:
        """Reset the counts, and the ids that were seen."""
        super().reset()
        self._seen = {PADDING}

    def compute(self) -> SegmentationScore:
        """Compute the set's score over all ranks."""
        confusion: NDArray[np.int64] = self.confusion.cpu().numpy().copy()
        ignored = gathered(self.ignored)
        return segmentation_score(
            gathered(self.sample_id), gathered(self.counts), ignored=ignored, confusion=confusion
        )
