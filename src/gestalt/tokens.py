"""Tokens: the interface between towers and aggregation.  B batch, N parts, D width, h w patch
grid.
"""

from typing import NamedTuple

from torch import Tensor

Pair = tuple[int, int]
"""Two whole numbers, down and across: a grid (h, w), or a stride in pixels."""


class Tokens(NamedTuple):
    """Output of a tower: N parts and an optional summary token for each item of a batch.

    Attributes:
        summary: (B, D), the class token of a ViT or BERT; None for a CNN or T5.
        parts: (B, N, D), patch tokens (row-major over the grid) or word tokens, after the tower's
            final norm.
        mask: (B, N) bool, True for a real part, False for padding.
        grid: (h, w) with h * w == N, for all patch tokens of an image; None for text and for
            sub-sampled patches.
        registers: (B, R, D), further tokens of a ViT, which stand for no patch; None for a tower
            without them.
    """

    summary: Tensor | None
    parts: Tensor
    mask: Tensor
    grid: Pair | None
    registers: Tensor | None = None


class Padded(NamedTuple):
    """Captions as a text tower reads them.

    Attributes:
        ids: token ids, (B, N) int64, padded on the right.
        mask: (B, N) bool, False on padding.
    """

    ids: Tensor
    mask: Tensor


class Features(NamedTuple):
    """Images as the trained part of an image tower reads them: the output of its frozen part.

    Attributes:
        values: (B, prefix + K, D) of a ViT, its kept patches only; (B, C, h', w') of a CNN.
        side: side of the square images, pixels.
    """

    values: Tensor
    side: int
