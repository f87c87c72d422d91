"""Mean IoU from integer counts of each image.  N samples, C classes, H W pixels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gestalt.data_modules.batches import PADDING
from gestalt.evaluation.confusion import counts_of, labelled_pixels
from gestalt.measures.masks import MaskScore
from gestalt.measures.rows import ImageMetric
from gestalt.support.arrays import Ints
from gestalt.support.label_values import MOST_CLASSES

ROW = 5
"""Integers of a row of counts: the image's id, a class, and its pixels of intersection, prediction
and truth in the image.
"""

OF_IMAGE = -1
"""In place of a class in the row of the image itself, which holds its ignored pixels."""


@dataclass(kw_only=True)
class SegmentationScore(MaskScore):
    """The result of ``MeanIoU``; its confusion matrix is (C, C), truth by prediction, or (C, C +
    1), the last column without a class.

    Attributes:
        rows: (m, ``ROW``) int64, the counts of the classes that occur in each image's truth or
            prediction, a few of many.
        ignored_pixels: the number of pixels of the set that were not scored.
    """

    rows: Ints
    ignored_pixels: int

    @cached_property
    def image_counts(self) -> Ints:
        """(N, 3, C) int64, the counts of each image, for paired intervals over images; made of the
        rows when they are first asked for.
        """
        return dense_counts(self.rows, sample_id=self.sample_id, classes=len(self.confusion))


def dense_counts(rows: Ints, *, sample_id: Ints, classes: int) -> Ints:
    """Return the counts (N, 3, C) of the images with these ids, which rise, from rows of classes
    and of images.
    """
    counts = np.zeros((len(sample_id), 3, classes), dtype=np.int64)
    rows = rows[rows[:, 1] != OF_IMAGE]
    counts[np.searchsorted(sample_id, rows[:, 0]), :, rows[:, 1]] = rows[:, 2:]
    return counts


class MeanIoU(ImageMetric):
    """Mean intersection over union of a whole set, over its classes.

    States are a list of (m, ``ROW``) int64 rows, one for each class that occurs in an image's truth
    or prediction and one with ``OF_IMAGE`` for each image, and one (C, C) int64 matrix, which
    counts each image once and no padding.  The memory of an image's counts grows with the classes
    in it, not with C.

    Args:
        classes: C, 2 to ``MOST_CLASSES``.
        unnamed: True if predicted pixels may have no class, the ``ignored_value`` of C: they count
            in the union of their true class, and the matrix is (C, C + 1).

    Raises:
        ValueError: as ``labelled_pixels``, with the sample's id.

    Source: the set-wide histogram and nanmean of the mmsegmentation evaluators.
    """

    confusion: Tensor

    def __init__(self, classes: int, *, unnamed: bool = False) -> None:
        super().__init__(ROW)
        if not 2 <= classes <= MOST_CLASSES:
            raise ValueError(
                f"{classes} classes: a segmentation has 2 to {MOST_CLASSES}, since its confusion "
                "matrix is kept whole"
            )
        self.classes = classes
        self.unnamed = unnamed
        self.add_state(
            "confusion",
            default=torch.zeros(classes, classes + unnamed, dtype=torch.int64),
            dist_reduce_fx="sum",
        )
        self._seen = {PADDING}

    def rows_of(self, prediction: Tensor, label: Tensor, index: int) -> Tensor:
        """Count an image; ``label`` is (H, W) with the ``ignored_value`` of C."""
        truth, named = labelled_pixels(
            prediction, label, classes=self.classes, unnamed=self.unnamed
        )
        if index not in self._seen:
            cells = (truth * self.confusion.shape[1] + named).to(self.device)
            self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))
        self._seen.add(index)
        hits = (2 * truth + (truth == named)).bincount(minlength=2 * self.classes).view(-1, 2)
        predicted = named.bincount(minlength=self.classes)[: self.classes]
        counts = torch.stack([hits[:, 1], predicted, hits.sum(dim=1)])
        present = counts[1:].any(dim=0).nonzero()[:, 0]
        rows = torch.column_stack([torch.full_like(present, index), present, counts.T[present]])
        ignored = label.numel() - len(truth)
        return torch.cat([rows.new_tensor([[index, OF_IMAGE, ignored, 0, 0]]), rows])

    def reset(self) -> None:
        """Reset the counts, and the ids that were seen."""
        super().reset()
        self._seen = {PADDING}

    def compute(self) -> SegmentationScore:
        """Compute the set's score over all ranks.

        Raises:
            RuntimeError: the matrix and the images count different pixels: two ranks scored one
                image.
        """
        rows = self.unique_rows(key=2)
        of_image = rows[:, 1] == OF_IMAGE
        images, classes = rows[of_image], rows[~of_image]
        counts = np.zeros((3, self.classes), dtype=np.int64)
        np.add.at(counts.T, classes[:, 1], classes[:, 2:])
        if not np.array_equal(counts_of(self.confusion).cpu().numpy(), counts):
            raise RuntimeError(
                "the confusion matrix and the images' counts differ: an image was scored by two "
                "ranks; deal each to one"
            )
        return SegmentationScore(
            sample_id=images[:, 0],
            confusion=self.confusion.cpu().numpy().copy(),
            counts=counts,
            rows=classes,
            ignored_pixels=int(images[:, 2].sum()),
        )
