"""Retrieval: embed images.  B images, E shared width."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gestalt.measures.evaluation.images import by_size, resize_all
from gestalt.measures.evaluation.protocols import ImageProtocol


@torch.no_grad()
def embed_images(model: Any, images: Sequence[Tensor], protocol: ImageProtocol) -> Tensor:
    """Embed B images, (3, H, W) uint8, each of its own size, as (B, E) float32; equal sizes go
    through the tower together.
    """
    return torch.stack(
        by_size(resize_all(images, protocol), lambda stack: model.embed_image(stack).float())
    )
