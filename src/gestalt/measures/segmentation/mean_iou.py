"""The mean IoU of a set of class maps, from integer counts of each image.  N images, C classes, H W
pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gestalt.measures.evaluation.confusion import MaskScore
from gestalt.measures.rows import ImageMetric
from gestalt.support.arrays import Ints
from gestalt.support.devices import bin_counts, occurring, on_host, ranks_among
from gestalt.support.label_values import MAX_CLASSES, ignored_value

OF_IMAGE = -1
"""In place of a class in the row of the image itself, which holds its labelled and its ignored
pixels.
"""


@dataclass(kw_only=True)
class SegmentationScore(MaskScore):
    """The result of ``MeanIoU``; its confusion matrix is (C, C), truth by prediction, or (C, C +
    1), the last column without a class.

    Attributes:
        sample_id: (N,) int64, ascending.
        confusion: int64, labelled pixels of the set, by truth and prediction.
        rows: (m, 5) int64, those of ``MeanIoU`` without the images' own; C or -1 is no class.
        ignored_pixels: the number of pixels of the set that were not scored.
    """

    sample_id: Ints
    confusion: Ints
    rows: Ints
    ignored_pixels: int

    @property
    def images(self) -> int:
        """The number of images that were counted."""
        return len(self.sample_id)

    @cached_property
    def image_counts(self) -> Ints:
        """(N, 3, C) int64, the counts of each image, for paired intervals over images; made of the
        rows when they are first asked for.
        """
        image = np.searchsorted(self.sample_id, self.rows[:, 0])
        return class_counts(self.rows, image, images=self.images, classes=self.counts.shape[1])

    def predicted_as(self, classes: Ints) -> "SegmentationScore":
        """Return the score of the same images where class c, as predicted, is ``classes[c]``."""
        rows = self.rows.copy()
        rows[:, 2] = classes[rows[:, 2]]
        return replace(
            self,
            rows=rows,
            counts=set_counts(rows, self.counts.shape[1]),
            confusion=confusion_of(rows, self.confusion.shape),
        )


def confusion_of(rows: Ints, shape: tuple[int, ...]) -> Ints:
    """Sum rows into a confusion matrix, truth by prediction."""
    confusion = np.zeros(shape, dtype=np.int64)
    np.add.at(confusion, (rows[:, 1], rows[:, 2]), rows[:, 4])
    return confusion


def set_counts(rows: Ints, classes: int) -> Ints:
    """Sum rows into the counts of the set, (3, C)."""
    return class_counts(rows, np.zeros_like(rows[:, 0]), images=1, classes=classes)[0]


def class_counts(rows: Ints, image: Ints, *, images: int, classes: int) -> Ints:
    """Sum rows into the counts of images, (N, 3, C); ``image`` is the position of each row's."""
    counts = np.zeros((images, 3, classes + 1), dtype=np.int64)
    _, truth, predicted, _, pixels = rows.T
    np.add.at(counts[:, 0], (image, truth), pixels * (truth == predicted))
    np.add.at(counts[:, 1], (image, predicted), pixels)
    np.add.at(counts[:, 2], (image, truth), pixels)
    return counts[..., :classes]


BAND_EDGES = (1, 2, 4, 8)
"""Pixels: the largest distance to a border in each band but the last, which has no end."""

BANDS = len(BAND_EDGES) + 1


def border_bands(truth: Tensor, classes: int) -> Tensor:
    """Return the band of each pixel by its distance to a border of the true label map, (H, W)
    uint8: 0 to 3 up to each of ``BAND_EDGES``, and 4 beyond.

    The distance is that to the nearest pixel of another class, along the longer axis (of the 8
    neighbours, each is at distance 1).  An ignored pixel is of no class, so that an edge with
    ignored pixels is no border: where they separate two classes, the distance is that across them.
    The host does not wait for a device.

    Args:
        truth: (H, W) int32, a class in [0, C), or a larger value for an ignored pixel.
        classes: C.
    """
    ignored = truth >= classes
    # the largest class of a window, and the complement of its smallest
    ends = torch.stack([truth, classes - 1 - truth]).masked_fill_(ignored, -1).short()
    bands = torch.zeros_like(truth, dtype=torch.uint8)
    reached = 0
    for edge in BAND_EDGES:
        ends = widen_windows(ends, edge - reached)
        bands += ends[0] + ends[1] == classes - 1  # a single class
        reached = edge
    return bands


def widen_windows(largest: Tensor, step: int) -> Tensor:
    """Return the maxima of windows that reach ``step`` pixels further to every side.

    Shifted maxima take a fiftieth of the time of ``max_pool2d`` on the CPU.

    Args:
        largest: (..., H, W), those of windows that reach ``step`` pixels already; single pixels for
            a ``step`` of 1.
        step: pixels.
    """
    for axis in (-1, -2):
        length = largest.shape[axis]
        shift = min(step, length)
        wider = largest.clone()
        for to, start in ((0, shift), (shift, 0)):
            part = wider.narrow(axis, to, length - shift)
            torch.maximum(part, largest.narrow(axis, start, length - shift), out=part)
        largest = wider
    return largest


class Slots(NamedTuple):
    """The classes of the pixels of one map.

    Attributes:
        values: (H, W) int32, a class in [0, C), C for a pixel without one, C + 1 for a wrong value.
        occurs: (C + 2,) bool, the values that occur.
    """

    values: Tensor
    occurs: Tensor

    @classmethod
    def of(cls, classes: Tensor, count: int, *, without: Tensor) -> "Slots":
        """Take a map of ``count`` classes; ``without`` is where a pixel has none."""
        classes = classes.int()
        right = (classes >= 0) & (classes < count)
        values = torch.where(right, classes, count + 1).masked_fill_(without, count)
        return cls(values, occurring(values, count + 2))

    @property
    def wrong(self) -> int:
        """The value of a pixel whose class does not exist."""
        return len(self.occurs) - 1

    def ranks(self) -> Tensor:
        """Return the position of each pixel's value among those that occur, (H, W) int64."""
        return ranks_among(self.values, self.occurs)


class MeanIoU(ImageMetric):
    """Mean intersection over union of a whole set, over its classes.

    The state is a list of (m, 5) int64 rows: the image's id, a true class, a predicted one, a band
    of ``border_bands``, and the pixels of the image that have all three, for each that occurs in
    it, and one with ``OF_IMAGE`` for each image: the memory of an image's counts grows with the
    classes in it, not with C.

    Args:
        classes: C, 2 to ``MAX_CLASSES``.
        clusters: K, if predictions are clusters and not classes.
        unnamed: True if predicted pixels may have no class, the ``ignored_value`` of C: they count
            in the union of their true class, and the matrix is (C, C + 1).

    Raises:
        ValueError: a prediction of another size than its label, or a value that is no class; names
            the sample's id.

    Source: the set-wide histogram and nanmean of the mmsegmentation evaluators.
    """

    def __init__(self, classes: int, *, clusters: int | None = None, unnamed: bool = False) -> None:
        super().__init__()
        if not 2 <= classes <= MAX_CLASSES:
            raise ValueError(
                f"{classes} classes: a segmentation has 2 to {MAX_CLASSES}, since its confusion "
                "matrix is kept whole"
            )
        self.classes = classes
        self.predicted = clusters or classes
        self.unnamed = unnamed

    def rows_of(
        self, predictions: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[int]
    ) -> Tensor:
        """Count the images of a batch; labels are (H, W) with the ``ignored_value`` of C.

        The host waits for a device twice: for the classes of all images, and for the pixels of each
        pair of classes in each band.
        """
        ignored = ignored_value(self.classes)
        maps: list[Slots] = []  # those of truth and prediction in turn
        for prediction, label, index in zip(predictions, labels, ids, strict=True):
            if prediction.shape != label.shape:
                raise ValueError(
                    f"sample {index}: the prediction is {tuple(prediction.shape)}, its label "
                    f"{tuple(label.shape)}; a prediction must have its label's size"
                )
            not_scored = label == ignored
            nameless = not_scored | (prediction == ignored) if self.unnamed else not_scored
            maps += [
                Slots.of(label, self.classes, without=not_scored),
                Slots.of(prediction, self.predicted, without=nameless),
            ]
        found = [occurs.nonzero()[:, 0] for occurs in on_host(*(part.occurs for part in maps))]
        images = list(zip(ids, maps[::2], maps[1::2], found[::2], found[1::2], strict=True))
        for number, (index, truth, predicted, truths, named) in enumerate(images):
            for name, values, slots, present in (
                ("prediction", predictions[number], predicted, named),
                ("label", labels[number], truth, truths),
            ):
                if slots.wrong in present:
                    value = int(values[slots.values == slots.wrong][0])
                    raise ValueError(
                        f"sample {index}: the {name} holds {value}, expected 0 to "
                        f"{slots.wrong - 2} ({ignored} in a label is ignored)"
                    )
        counts = on_host(
            *(
                bin_counts(
                    (truth.ranks() * len(named) + predicted.ranks()) * BANDS
                    + border_bands(truth.values, self.classes),
                    len(truths) * len(named) * BANDS,
                ).reshape(len(truths), len(named), BANDS)
                for _, truth, predicted, truths, named in images
            )
        )
        return torch.cat(
            [
                self._rows_of_image(index, pixels, truths, named)
                for pixels, (index, _, _, truths, named) in zip(counts, images, strict=True)
            ]
        )

    def _rows_of_image(self, index: int, pixels: Tensor, truths: Tensor, named: Tensor) -> Tensor:
        """Return the rows of an image, from the pixels (t, p, BANDS) of the values that occur in
        truth (t,) and prediction (p,).
        """
        scored = truths < self.classes
        ignored, pixels = pixels[~scored].sum(), pixels[scored]
        row, column, band = pixels.nonzero().T
        counted = pixels[row, column, band]
        pairs = [torch.full_like(row, index), truths[row], named[column], band, counted]
        whole = torch.tensor([[index, OF_IMAGE, int(pixels.sum()), 0, int(ignored)]])
        return torch.cat([whole, torch.stack(pairs, dim=1)])

    def compute(self) -> SegmentationScore:
        """Compute the set's score over all ranks.

        Raises:
            RuntimeError: the pairs of classes hold other pixels than the images: two ranks scored
                one image.
        """
        rows = self.unique_rows(key=4)
        of_image = rows[:, 1] == OF_IMAGE
        images, pairs = rows[of_image], rows[~of_image]
        if pairs[:, 4].sum() != images[:, 2].sum():
            raise RuntimeError(
                "the counts of classes differ from the images' pixels: an image was scored by two "
                "ranks; deal each to one"
            )
        confusion = confusion_of(pairs, (self.classes, self.predicted + self.unnamed))
        return self.score(
            confusion, pairs, sample_id=images[:, 0], ignored_pixels=int(images[:, 4].sum())
        )

    def score(self, confusion: Ints, rows: Ints, **facts: Any) -> SegmentationScore:
        """Return the score of the rows of the set and their sum."""
        counts = set_counts(rows, self.classes)
        return SegmentationScore(confusion=confusion, counts=counts, rows=rows, **facts)
