"""Accuracy of each class and of each group, from one row of integers per image.  N images, C
classes, P places.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gestalt.data_modules.batches import PADDING
from gestalt.evaluation.confusion import divide_or_nan
from gestalt.measures.rows import RowMetric
from gestalt.support.arrays import Floats, Ints


class AccuracyScore(NamedTuple):
    """The result of ``GroupAccuracy``, the same on every rank.

    Attributes:
        images: number of images that were counted.
        sample_id: (N,) int64, ascending.
        truth: (N,) int64, the true class.
        place: (N,) int64, where the image was taken; 0 without places.
        prediction: (N,) int64, the predicted class.
        rank: (N,) int64, number of classes that came before the true one.
        right: (C, P) int64, images of each class at each place that were classified right.
        total: (C, P) int64, all images of each class at each place.
    """

    images: int
    sample_id: Ints
    truth: Ints
    place: Ints
    prediction: Ints
    rank: Ints
    right: Ints
    total: Ints

    def top(self, count: int) -> float:
        """Return the share of images whose true class is among the first ``count``, [0, 1]; nan
        without images.
        """
        return int((self.rank < count).sum()) / self.images if self.images else float("nan")

    @property
    def cells(self) -> Floats:
        """(C, P) accuracy of each class at each place; nan where it has no image."""
        return divide_or_nan(self.right, self.total)

    @property
    def majority(self) -> float:
        """The accuracy of predicting the commonest class of the set for every image."""
        return int(self.total.sum(axis=1).max()) / self.images if self.images else float("nan")


class GroupAccuracy(RowMetric):
    """Accuracy over a whole set, of each class and of each class at each place.

    The state is a list of (n, 5) int64 rows: image id, true class, place, predicted class, and the
    true class's rank.

    Args:
        classes: C, those that an image may have; a prediction may be one more.
        places: P, 1 for a set without places.

    Raises:
        ValueError: a true class or a place that does not exist, with the sample's id.
    """

    def __init__(self, classes: int, *, places: int = 1) -> None:
        super().__init__(5)
        self.classes = classes
        self.places = places

    def update(
        self,
        truth: Tensor,
        *,
        prediction: Tensor,
        rank: Tensor,
        sample_id: Tensor,
        place: Tensor | None = None,
    ) -> None:
        """Count a batch.

        Args:
            truth: (B,) int64 in [0, C).
            prediction: (B,) int64.
            rank: (B,) int64; 0 is right.
            sample_id: (B,), the ids in the set; ``PADDING`` is not scored.
            place: (B,) int64 in [0, P); None for 0.
        """
        place = torch.zeros_like(truth) if place is None else place
        columns = [
            part.to(device=self.device, dtype=torch.int64)
            for part in (sample_id, truth, place, prediction, rank)
        ]
        for name, values, count in (
            ("class", columns[1], self.classes),
            ("place", columns[2], self.places),
        ):
            wrong = (columns[0] != PADDING) & ((values < 0) | (values >= count))
            if wrong.any():
                index = int(wrong.nonzero()[0])
                raise ValueError(
                    f"sample {int(columns[0][index])}: {name} {int(values[index])} does not exist, "
                    f"there are 0 to {count - 1}"
                )
        self.rows.append(torch.stack(columns, dim=1))

    def compute(self) -> AccuracyScore:
        """Compute the set's score over all ranks."""
        rows = self.unique_rows()
        sample_id, truth, place, prediction, rank = rows.T
        cell, shape = truth * self.places + place, (self.classes, self.places)
        right, total = (
            np.bincount(cell[chosen], minlength=math.prod(shape)).reshape(shape)
            for chosen in (rank == 0, slice(None))
        )
        return AccuracyScore(len(rows), sample_id, truth, place, prediction, rank, right, total)
