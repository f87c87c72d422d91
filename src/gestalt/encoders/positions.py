"""Absolute position embeddings of a ViT on grids of other sizes.  N patches, D width, h w patch
grid.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.backbones import is_vit
from gestalt.tokens import Pair

SCALE_FACTOR_EXCESS = 0.1
"""Added to the sides of the grid before they are divided: it avoids a rounding error in DINO and
its successors, and shifts the samples.
"""


def interpolate_positions(
    positions: Tensor, *, prefix: int, old: Pair, new: Pair, how: str
) -> Tensor:
    """Resize position embeddings (prefix + h w, D) from one grid to another; equal grids keep them.

    Args:
        positions: row-major, behind those of class and register tokens, which are kept.
        prefix: number of these tokens.
        old, new: grids (h, w).
        how: "timm", bicubic with antialiasing; or "scale_factor", bicubic without, sampled by scale
            factors.

    Returns:
        (prefix + h' w', D).

    Source: scale_factor: wangf3014/SCLIP at b56bd30, clip/model.py, after facebookresearch/dino.
    """
    if not torch.compiler.is_exporting() and old == new:  # a graph is of any grid
        return positions
    plane = positions[prefix:].float().T.reshape(1, -1, *old)
    if how == "timm":
        wide = functional.interpolate(
            plane, size=new, mode="bicubic", antialias=True, align_corners=False
        )
    else:
        factors = tuple(
            (side + SCALE_FACTOR_EXCESS) / before for side, before in zip(new, old, strict=True)
        )
        wide = functional.interpolate(
            plane, scale_factor=factors, mode="bicubic", align_corners=False
        )
    return torch.cat([positions[:prefix], wide[0].flatten(1).T.to(positions.dtype)])


@contextmanager
def timm_positions(trunk: Any, *, grid: Pair, how: str) -> Iterator[None]:
    """Within the context, a timm ViT has its position embeddings resized to a grid by another rule
    than timm's.

    Raises:
        ValueError: the trunk has no absolute position embeddings.
    """
    embedded = getattr(trunk, "pos_embed", None) if is_vit(trunk) else None
    if embedded is None:
        raise ValueError(
            f"positions={how}: {type(trunk).__name__} is no ViT of timm with absolute position "
            "embeddings; choose timm"
        )
    old = trunk.patch_embed.grid_size
    prefix = embedded.shape[1] - old[0] * old[1]
    resized = interpolate_positions(embedded[0], prefix=prefix, old=old, new=grid, how=how)
    del trunk.pos_embed
    trunk.pos_embed = resized[None].detach()
    trunk.patch_embed.grid_size = grid
    try:
        yield
    finally:
        del trunk.pos_embed
        trunk.pos_embed, trunk.patch_embed.grid_size = embedded, old
