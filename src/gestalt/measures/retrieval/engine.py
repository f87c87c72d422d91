"""Retrieval: embed images and captions.  N images, T captions, E shared width."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from gestalt.evaluation.images import by_size, resize_all
from gestalt.evaluation.prompts import TEXTS_AT_ONCE
from gestalt.evaluation.protocols import ImageProtocol


@torch.no_grad()
def embed_images(model: Any, images: Sequence[Tensor], protocol: ImageProtocol) -> Tensor:
    """Embed B images, (3, H, W) uint8, each of its own size, as (B, E) float32; equal sizes go
    through the tower together.
    """
    return torch.stack(
        by_size(resize_all(images, protocol), lambda stack: model.embed_image(stack).float())
    )


@torch.no_grad()
def embed_captions(model: Any, captions: Sequence[Sequence[str]], like: Tensor) -> Tensor:
    """Embed all captions of a batch in order, (T, E) float32; no captions give (0, E), with E and
    device as ``like``.
    """
    texts = list(chain.from_iterable(captions))
    chunks = [
        model.embed_text(texts[start : start + TEXTS_AT_ONCE]).float()
        for start in range(0, len(texts), TEXTS_AT_ONCE)
    ]
    return torch.cat(chunks) if chunks else like.new_zeros(0, like.shape[1], dtype=torch.float32)
