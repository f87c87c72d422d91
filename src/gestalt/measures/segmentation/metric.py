"""Mean IoU from integer counts of each image.  N samples, C classes, H W pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.evaluation.confusion import IGNORE, confusion_matrix, counts_of
from gestalt.measures.masks import MaskScore
from gestalt.measures.rows import PADDING, SetMetric, counted_once, gathered, ids_of, naming


@dataclass(kw_only=True)
class SegmentationScore(MaskScore):
    """The result of ``MeanIoU``; its confusion matrix is (C, C), truth by prediction, or (C, C + 1), the last column without a class.

    Attributes:
        ignored_pixels: the number of pixels of the set that were not scored.
    """

    ignored_pixels: int


def segmentation_score(
    sample_id: NDArray[np.int64], counts: NDArray[np.int64], *, ignored: NDArray[np.int64], confusion: NDArray[np.int64]
) -> SegmentationScore:
    """Drop padding, count each id once.  sample_id (M,), counts (M, 3, C), ignored (M,) in any order; confusion of the set, summed.

    Raises:
        RuntimeError: the matrix and the images count different pixels: two ranks scored one image.
    """
    once = counted_once(sample_id)
    ignored_pixels = int(ignored[once].sum())
    score = SegmentationScore(sample_id=sample_id[once], image_counts=counts[once], confusion=confusion, ignored_pixels=ignored_pixels)
    summed = np.stack([confusion.diagonal(), confusion.sum(axis=0)[: len(confusion)], confusion.sum(axis=1)])
    if not np.array_equal(summed, score.counts):
        raise RuntimeError("the confusion matrix and the images' counts differ: an image was scored by two ranks; deal each to one")
    return score


class MeanIoU(SetMetric):
    """Mean intersection over union of a whole set, over its classes.

    States are lists of (n,) ids, (n, 3, C) int64 counts and (n,) ignored pixels, and one (C, C) int64 matrix, which counts each image
    once and no padding.

    Args:
        classes: C, 2 to 255.
        unnamed: True if predicted pixels may be ``UNNAMED``: they count in the union of their true class, and the matrix is (C, C + 1).

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
        if not 2 <= classes <= IGNORE:
            raise ValueError(f"{classes} classes: a segmentation has 2 to {IGNORE}, since labels are uint8 and {IGNORE} is ignored")
        self.classes = classes
        self.unnamed = unnamed
        zeros = torch.zeros(1, 3, classes, dtype=torch.int64)
        self.add_rows(sample_id=torch.tensor([PADDING]), counts=zeros, ignored=zeros[:, 0, 0])
        self.add_state("confusion", default=torch.zeros(classes, classes + unnamed, dtype=torch.int64), dist_reduce_fx="sum")
        self._seen = {PADDING}

    def update(self, prediction: Tensor | Sequence[Tensor], label: Tensor | Sequence[Tensor], sample_id: Tensor | int) -> None:
        """Count one image, or a batch of images of any sizes.

        Args:
            prediction: (H, W), or B of them.
            label: (H, W) with ``IGNORE``, or B of them.
            sample_id: the id in the set, or (B,) of them; ``PADDING`` is not scored.
        """
        predictions = [prediction] if isinstance(prediction, Tensor) else prediction
        labels = [label] if isinstance(label, Tensor) else label
        ids = ids_of(sample_id, device=self.device)
        rows, ignored = [], []
        for predicted, truth, index in zip(predictions, labels, ids.tolist(), strict=True):
            with naming(index):
                matrix = confusion_matrix(predicted, truth, classes=self.classes, unnamed=self.unnamed)
            rows.append(counts_of(matrix))
            ignored.append((truth == IGNORE).sum())
            if index not in self._seen:
                self.confusion += matrix.to(self.device)
            self._seen.add(index)
        self.sample_id.append(ids)
        self.counts.append(torch.stack(rows).to(self.device))
        self.ignored.append(torch.stack(ignored).to(self.device))

    def reset(self) -> None:
        """Reset the counts, and the ids that were seen."""
        super().reset()
        self._seen = {PADDING}

    def compute(self) -> SegmentationScore:
        """Compute the set's score over all ranks."""
        confusion: NDArray[np.int64] = self.confusion.cpu().numpy().copy()
        ignored = gathered(self.ignored)
        return segmentation_score(gathered(self.sample_id), gathered(self.counts), ignored=ignored, confusion=confusion)
