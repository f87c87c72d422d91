"""Metrics over a whole set: integer rows that begin with a sample's id, gathered over ranks,
counted once.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from gestalt.support.arrays import Ints
from gestalt.support.devices import send
from gestalt.support.label_values import PADDING


class RowMetric(Metric):
    """A metric whose state is a list of (n, width) int64 rows, gathered over ranks, each of which
    has some, since loaders pad.

    Padding stays in the rows through the sync, and is dropped when the score is computed.
    """

    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def unique_rows(self, key: int = 1) -> Ints:
        """Return the rows of all ranks without padding and duplicates, in ascending order of their
        first ``key`` values; of rows that agree in these values, the first.
        """
        rows: Ints = dim_zero_cat(self.rows).cpu().numpy()
        _, first = np.unique(rows[:, :key], axis=0, return_index=True)
        rows = rows[first]
        return rows[rows[:, 0] != PADDING]


class ImageMetric(RowMetric):
    """A metric that counts the pixels of images.

    Attributes:
        counted: the rows of the last batch, on the CPU.
    """

    counted: Tensor

    def rows_of(
        self, predictions: Sequence[Tensor], labels: Sequence[Tensor], ids: Sequence[int]
    ) -> Tensor:
        """Count the images of a batch.  Returns rows (n, width) int64 on the CPU."""
        raise NotImplementedError

    def update(
        self, predictions: Iterable[Tensor], labels: Sequence[Tensor], sample_id: Tensor
    ) -> None:
        """Count a batch of images of any sizes, whose ids in the set are (B,); ``PADDING`` is not
        scored.

        Raises:
            ValueError: an image that cannot be counted, with its id.
        """
        self.counted = self.rows_of(list(predictions), labels, sample_id.long().tolist())
        self.rows.append(send(self.counted, self.device))
