"""Tokens: the interface between towers and aggregation.

B batch size, N parts, D width, h w patch grid.
"""

from typing import NamedTuple

from torch import Tensor

Pair = tuple[int, int]
"""Two integers, down and across: a grid (h, w), or a stride in pixels."""


class Tokens(NamedTuple):
    """Output of a tower: N parts and an optional summary token for each item of a batch.

    Attributes:
        summary: (B, D), the class token of a ViT or BERT; None for a CNN or T5.
        parts: (B, N, D), patch tokens (row-major over the grid) or word tokens, after the tower's
            final norm.
        mask: (B, N) bool, True for a real part, False for padding.
        grid: (h, w) with h * w == N, for all patch tokens of an image; None for text and for
            sub-sampled patches.
        registers: (B, R, D), register tokens of a ViT, which do not belong to patches; None for a
            tower without registers.
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
    """Images as the input of the trained part of an image tower: the output of the frozen part.

    Attributes:
        values: (B, prefix + K, D) for a ViT, with the kept patches only; (B, C, h', w') for a CNN.
        side: side of the square images in pixels.
    """

    values: Tensor
    side: int
