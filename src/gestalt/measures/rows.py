"""Base of the metrics over a whole set: integer rows that begin with a sample's id, gathered over
ranks, counted once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

PADDING = -1
"""The id of a sample that only fills a batch."""


class SetMetric(Metric):
    """A metric whose states are lists of rows, gathered over ranks and computed once.

    Padding stays in the rows through the sync; ``compute`` drops it and counts each id once.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False

    def add_rows(self, *states: str, **padding: Tensor) -> None:
        """Add states that are lists of rows; a keyword also gives the row of padding for a rank
        without any.
        """
        self._padding = padding
        for state in (*states, *padding):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Sync over ranks; a rank that saw no image adds a row of padding, so that all ranks send
        tensors of one type and width.
        """
        for state, row in self._padding.items():
            rows: list[Tensor] = getattr(self, state)
            if not rows:
                rows.append(row.to(self.device))
        super().sync(*args, **kwargs)


@contextmanager
def naming(sample_id: int) -> Iterator[None]:
    """Put the sample's id in front of a ValueError's message."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"sample {sample_id}: {error}") from error


def ids_of(sample_id: Tensor | int, *, device: torch.device) -> Tensor:
    """Return one id, or a batch of them, as (B,) int64."""
    return torch.as_tensor(sample_id).reshape(-1).to(device=device, dtype=torch.int64)


def gathered(state: Any) -> NDArray[Any]:
    """Return a list state, concatenated by the sync or not, as one array."""
    array: NDArray[Any] = (torch.cat(state) if isinstance(state, list) else state).cpu().numpy()
    return array


def counted_once(sample_id: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the position of each id's first row, in ascending order of id, without padding."""
    ids, first = np.unique(sample_id, return_index=True)
    once: NDArray[np.intp] = first[ids != PADDING]
    return once
