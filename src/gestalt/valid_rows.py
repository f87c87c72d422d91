"""Valid rows of a batch: the pairs that the towers read, and their embeddings put back.  B pairs of the batch."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

TENSORS = ("image", "features", "token_ids", "token_mask")
"""Fields of a batch that the towers read, by row; a batch has some of them."""


def rows_to_embed(valid: Tensor, *, count: int) -> Tensor | None:
    """Return the indices of valid rows; None to embed all, also if none is valid: DDP needs every parameter in the graph.

    The loader knows their ``count``, so that only a batch with bad rows waits for the device.
    """
    return None if count in (0, len(valid)) else valid.nonzero().squeeze(1)


def select(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Select rows of the fields that the towers read."""
    tensors = {key: batch[key][rows] for key in (*TENSORS, "sample_id", "epoch") if key in batch}
    return {**batch, **tensors, "text": [batch["text"][row] for row in rows.tolist()]}


def scatter(vectors: Tensor, rows: Tensor | None, *, count: int) -> Tensor:
    """Put vectors, or the patches of images, at their rows of ``count``, zeros elsewhere, so that all ranks gather equally many rows."""
    if rows is None:
        return vectors
    return vectors.new_zeros(count, *vectors.shape[1:]).index_copy(0, rows, vectors)
