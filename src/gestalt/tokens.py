"""Tokens: the one interface between towers and aggregation.  B batch, N parts, D width, h w patch grid."""

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """What a tower makes of a batch: one optional summary token and N parts an item.

    Attributes:
        summary: (B, D), the class token of a ViT or BERT; None for a CNN or T5.
        parts: (B, N, D), patch tokens (row-major over the grid) or word tokens, after the tower's final norm.
        mask: (B, N) bool, True where a part is real and False where it is padding.
        grid: (h, w) with h * w == N for image tokens that are all there; None for text, and once tokens were dropped.
    """

    summary: Tensor | None
    parts: Tensor
    mask: Tensor
    grid: tuple[int, int] | None
