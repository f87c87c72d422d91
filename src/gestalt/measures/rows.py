"""What every metric keeps: rows that begin with a sample's id, gathered over ranks."""

from typing import Any

import torch
from numpy.typing import NDArray

PADDING = -1
"""The id of a sample that only fills a batch."""


def gathered(state: Any) -> NDArray[Any]:
    """A list state, or what the sync made of it, as one array."""
    array: NDArray[Any] = (torch.cat(state) if isinstance(state, list) else state).cpu().numpy()
    return array
