"""Mean intersection over union from integer counts of each image.  N samples, C classes, H W pixels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from gestalt.evaluation.confusion import IGNORE, confusion_matrix, counts_of, iou_of
from gestalt.measures.rows import PADDING, gathered


class SegmentationScore(NamedTuple):
    """What ``MeanIoU`` comes to, as plain numbers and NumPy arrays, the same on every rank.

    Attributes:
        miou: mean IoU over the classes that occur in truth or prediction, [0, 1]; nan without any.
        iou: (C,) float64; nan for a class in neither, 0 for one that is only predicted.
        pixel_accuracy: correct of labelled pixels, [0, 1].
        images: how many images were counted.
        counts: (3, C) int64, pixels of intersection, prediction and truth over the set.
        confusion: (C, C) int64, labelled pixels over the set, a row a class of the truth, a column a class of the prediction.
        ignored_pixels: how many pixels of the set were not scored.
        sample_id: (N,) int64, ascending.
        image_counts: (N, 3, C) int64, the counts of each image, for a paired bootstrap over images.
    """

    miou: float
    iou: NDArray[np.float64]
    pixel_accuracy: float
    images: int
    counts: NDArray[np.int64]
    confusion: NDArray[np.int64]
    ignored_pixels: int
    sample_id: NDArray[np.int64]
    image_counts: NDArray[np.int64]


def segmentation_score(
    sample_id: NDArray[np.int64], counts: NDArray[np.int64], *, ignored: NDArray[np.int64], confusion: NDArray[np.int64]
) -> SegmentationScore:
    """Drop padding, count each id once, sum, divide.

    Args:
        sample_id: (M,), in any order.
        counts: (M, 3, C), likewise.
        ignored: (M,), pixels that were not scored, likewise.
        confusion: (C, C), summed already.

    Raises:
        RuntimeError: the matrix counts other pixels than the images: two ranks scored one image.
    """
    ids, first = np.unique(sample_id, return_index=True)
    kept = ids != PADDING
    ids, image_counts = ids[kept], counts[first[kept]]
    total: NDArray[np.int64] = image_counts.sum(axis=0, dtype=np.int64)
    if not np.array_equal(np.stack([confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)]), total):
        raise RuntimeError("the confusion matrix and the images' counts differ: an image was scored by two ranks; deal each to one")
    iou = iou_of(total)
    present = ~np.isnan(iou)
    labelled = int(total[2].sum())
    return SegmentationScore(
        miou=float(iou[present].mean()) if present.any() else float("nan"),
        iou=iou,
        pixel_accuracy=int(total[0].sum()) / labelled if labelled else float("nan"),
        images=len(ids),
        counts=total,
        confusion=confusion,
        ignored_pixels=int(ignored[first[kept]].sum()),
        sample_id=ids,
        image_counts=image_counts,
    )


class MeanIoU(Metric):
    """Mean intersection over union of a whole set, over its classes.

    States are lists of (n,) ids, (n, 3, C) int64 counts and (n,) ignored pixels, where padding stays through the sync and is dropped in
    ``compute``, and one (C, C) int64 matrix, which takes each image once and no padding.

    Args:
        classes: C, 2 to 255.

    Raises:
        ValueError: as ``confusion_matrix``, with the sample's id.

    Source: the set-wide histogram and nanmean of the mmsegmentation evaluators.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    sample_id: list[Tensor]
    counts: list[Tensor]
    ignored: list[Tensor]
    confusion: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        if not 2 <= classes <= IGNORE:
            raise ValueError(f"{classes} classes: a segmentation has 2 to {IGNORE}, since labels are uint8 and {IGNORE} is ignored")
        self.classes = classes
        for state in ("sample_id", "counts", "ignored"):
            self.add_state(state, default=[], dist_reduce_fx="cat")
        self.add_state("confusion", default=torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
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
        ids = torch.as_tensor(sample_id).reshape(-1).to(device=self.device, dtype=torch.int64)
        rows, ignored = [], []
        for one, truth, index in zip(predictions, labels, ids.tolist(), strict=True):
            try:
                matrix = confusion_matrix(one, truth, classes=self.classes)
            except ValueError as error:
                raise ValueError(f"sample {index}: {error}") from error
            rows.append(counts_of(matrix))
            ignored.append((truth == IGNORE).sum())
            if index not in self._seen:
                self.confusion += matrix.to(self.device)
            self._seen.add(index)
        self.sample_id.append(ids)
        self.counts.append(torch.stack(rows).to(self.device))
        self.ignored.append(torch.stack(ignored).to(self.device))

    def reset(self) -> None:
        """Forget the images."""
        super().reset()
        self._seen = {PADDING}

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Sync over ranks; a rank that saw no image adds a row of padding, so that all ranks send the same kind of tensor."""
        if not self.sample_id:
            self.sample_id.append(torch.tensor([PADDING], device=self.device))
            self.counts.append(torch.zeros(1, 3, self.classes, dtype=torch.int64, device=self.device))
            self.ignored.append(torch.zeros(1, dtype=torch.int64, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> SegmentationScore:
        """The set's score over all ranks."""
        confusion: NDArray[np.int64] = self.confusion.cpu().numpy().copy()
        ignored = gathered(self.ignored)
        return segmentation_score(gathered(self.sample_id), gathered(self.counts), ignored=ignored, confusion=confusion)

    def per_image(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids (N,), ascending, and counts (N, 3, C) of all ranks; all ranks must ask."""
        score: SegmentationScore = self.compute()
        return score.sample_id, score.image_counts
