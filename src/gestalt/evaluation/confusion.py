"""Pixels counted by truth and prediction, and the scores of these counts.  N images, C classes, P predicted values, H W pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IGNORE = 255
"""The label value that no metric counts."""


def confusion_matrix(prediction: Tensor, label: Tensor, *, classes: int, predicted: int | None = None) -> Tensor:
    """Count the labelled pixels of one image by truth and prediction.

    Args:
        prediction: (H, W) integers in [0, P).
        label: (H, W) integers in [0, C), or ``IGNORE``.
        classes: C.
        predicted: P, where predictions are clusters; C unless given.

    Returns:
        (C, P) int64, a row a class of the truth, a column a predicted value.

    Raises:
        ValueError: the shapes differ, or a value is out of range.
    """
    if prediction.shape != label.shape:
        raise ValueError(
            f"the prediction is {tuple(prediction.shape)}, its label {tuple(label.shape)}; predictions come at the label's size"
        )
    predicted = classes if predicted is None else predicted
    labelled = label != IGNORE
    columns, rows = prediction[labelled].long(), label[labelled].long()
    for name, values, count in (("prediction", columns, predicted), ("label", rows, classes)):
        least, largest = (int(value) for value in values.aminmax()) if len(values) else (0, 0)
        if least < 0 or largest >= count:
            wrong = least if least < 0 else largest
            raise ValueError(f"the {name} holds {wrong}, expected 0 to {count - 1} ({IGNORE} in a label is ignored)")
    return torch.bincount(rows * predicted + columns, minlength=classes * predicted).reshape(classes, predicted)


def counts_of(confusion: Tensor) -> Tensor:
    """Return intersection, prediction and truth of each class, (3, C), of a confusion matrix (C, C)."""
    return torch.stack([confusion.diagonal(), confusion.sum(dim=0), confusion.sum(dim=1)])


def pixel_counts(prediction: Tensor, label: Tensor, *, classes: int) -> Tensor:
    """Count intersection, prediction and truth of each class in one image, (3, C) int64; otherwise as ``confusion_matrix``."""
    return counts_of(confusion_matrix(prediction, label, classes=classes))


def iou_of(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU (..., C) of counts (..., 3, C) in float64; nan where a class is in neither truth nor prediction."""
    intersection = counts[..., 0, :]
    union = counts[..., 1, :] + counts[..., 2, :] - intersection
    iou: NDArray[np.float64] = np.divide(intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
    return iou


def image_miou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each image's mean IoU (N,) over the classes in its truth or prediction, of counts (N, 3, C); nan without any."""
    iou = iou_of(counts)
    present = ~np.isnan(iou)
    sums, times = np.where(present, iou, 0.0).sum(axis=1), present.sum(axis=1)
    mean: NDArray[np.float64] = np.divide(sums, times, out=np.full(len(iou), np.nan), where=times > 0)
    return mean
