"""Pixels counted by truth and prediction, and what follows from the counts.  N images, C classes, H W pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE = 255
"""The label value that no metric counts."""


def confusion_matrix(prediction: Tensor, label: Tensor, *, classes: int) -> Tensor:
    """Count the labelled pixels of one image by truth and prediction.

    Args:
        prediction: (H, W) integers in [0, C).
        label: (H, W) integers in [0, C), or ``IGNORE``.
        classes: C.

    Returns:
        (C, C) int64, a row a class of the truth, a column a class of the prediction.

    Raises:
        ValueError: the shapes differ, or a value is no class.
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f"the prediction is {tuple(prediction.shape)}, its label {tuple(label.shape)}; predictions come at the label's size"
        )
    labelled = label != IGNORE
    predicted, truth = prediction[labelled].long(), label[labelled].long()
    for what, values in (("prediction", predicted), ("label", truth)):
        largest = int(values.max()) if len(values) else 0
        if largest >= classes:
            raise ValueError(f"the {what} holds class {largest}, the label set has {classes} (0 to {classes - 1}; {IGNORE} is ignored)")
    return torch.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def counts_of(confusion: Tensor) -> Tensor:
    """A confusion matrix (C, C) to intersection, prediction and truth of each class, (3, C)."""
    return torch.stack([confusion.diagonal(), confusion.sum(dim=0), confusion.sum(dim=1)])


def pixel_counts(prediction: Tensor, label: Tensor, *, classes: int) -> Tensor:
    """Intersection, prediction and truth of each class in one image, (3, C) int64; all else as ``confusion_matrix``."""
    return counts_of(confusion_matrix(prediction, label, classes=classes))


def iou_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts (..., 3, C) to IoU (..., C) in float64; nan where a class is in neither truth nor prediction."""
    intersection = counts[..., 0, :]
    union = counts[..., 1, :] + counts[..., 2, :] - intersection
    iou: NDArray[np.float64] = np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
    return iou


def image_miou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts (N, 3, C) to the mean IoU of each image over the classes in its truth or prediction, (N,); nan without any."""
    iou = iou_of(counts)
    present = ~np.isnan(iou)
    sums, times = np.where(present, iou, 0.0).sum(axis=1), present.sum(axis=1)
    mean: NDArray[np.float64] = np.divide(sums, times, out=np.full(len(iou), np.nan), where=times > 0)
    return mean
