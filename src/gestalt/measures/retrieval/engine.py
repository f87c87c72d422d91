"""Retrieval: captions find their image, images find their captions.  N images, T captions, E shared width."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gestalt.evaluation.images import equal_sizes, resized
from gestalt.evaluation.prompts import TEXTS_AT_ONCE, TextEmbedder
from gestalt.evaluation.protocols import ImageProtocol


class ImageEmbedder(Protocol):
    """A model with one embedding an image."""

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, E), L2-normalised."""


@torch.no_grad()
def embed_images(model: ImageEmbedder, images: Sequence[Tensor], *, protocol: ImageProtocol) -> Tensor:
    """B images, (3, H, W) uint8, each of its own size, to (B, E) float32; equal sizes go through the tower together."""
    vectors: dict[int, Tensor] = {}
    for positions, stack in equal_sizes([resized(image, protocol=protocol) for image in images]):
        vectors.update(zip(positions, model.embed_image(stack).float(), strict=True))
    return torch.stack([vectors[position] for position in range(len(images))])


@torch.no_grad()
def embed_captions(model: TextEmbedder, captions: Sequence[Sequence[str]], *, like: Tensor) -> Tensor:
    """All captions of a batch in order, (T, E) float32; no captions give (0, E), with E and device as ``like``."""
    texts = [caption for each in captions for caption in each]
    chunks = [model.embed_text(texts[start : start + TEXTS_AT_ONCE]).float() for start in range(0, len(texts), TEXTS_AT_ONCE)]
    return torch.cat(chunks) if chunks else like.new_zeros(0, like.shape[1], dtype=torch.float32)
