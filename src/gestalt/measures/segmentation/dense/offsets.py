"""Constants that are added to the cosines of each prompt: corrections that need no labels.  B
images, K prompts.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gestalt.data_modules.unlabelled import FolderImages, SourceImages
from gestalt.evaluation.images import by_size
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.losses.gather import shared_by_ranks
from gestalt.measures.segmentation.dense.scores import cosines
from gestalt.measures.segmentation.dense.windows import Pieces, cut_and_embed, fitted_to_patches
from gestalt.measures.segmentation.protocol import TopDownProtocol

IMAGES_AT_ONCE = 16
"""Unlabelled images in one batch.  Whole batches are dealt to ranks, so that no batch depends on
their number.
"""


class Largest(NamedTuple):
    """The statistics of unlabelled images.

    Attributes:
        mean: (K,) float64 on the CPU, the mean over images of each prompt's largest cosine in an
            image.
        images: number of images.
        seen: a hash of each image's pixels.
    """

    mean: Tensor
    images: int
    seen: frozenset[int]


def pixels_hash(image: Tensor) -> int:
    """Hash the pixels and the size of an image (3, H, W) uint8, the same in every process."""
    digest = hashlib.blake2b(
        image.cpu().numpy().tobytes(),
        digest_size=8,
        salt=f"{image.shape[1]}x{image.shape[2]}".encode()[:16],
    )
    return int.from_bytes(digest.digest(), "little")


@torch.no_grad()
def largest_cosines(
    model: Any,
    images: FolderImages | SourceImages,
    *,
    chosen: Sequence[int],
    prompts: ClassEmbeddings,
    protocol: TopDownProtocol,
) -> Largest:
    """Measure how near each prompt comes to unlabelled images; every rank must call it, shares the
    work and gets the result.

    Args:
        model: in eval mode.
        images: read by number.
        chosen: indices of those to measure.
        prompts: embedded under the protocol, without offsets.
        protocol: how images are resized and cut.

    Raises:
        ValueError: no image can be read.
    """
    batches = [
        chosen[start : start + IMAGES_AT_ONCE] for start in range(0, len(chosen), IMAGES_AT_ONCE)
    ]

    def measure(batch: Sequence[int]) -> list[tuple[int, Tensor]]:
        readable = [image for image in map(images.picture, batch) if image is not None]
        if not readable:
            return []
        device = prompts.vectors.device
        pieces = cut_and_embed(model, [image.to(device) for image in readable], protocol)
        with torch.autocast(device.type, enabled=False):
            largest = [
                cosines(windows, prompts).amax(dim=(1, 2)).double().cpu() for windows in pieces
            ]
        return [(pixels_hash(image), row) for image, row in zip(readable, largest, strict=True)]

    measured = [row for rows in shared_by_ranks(batches, measure) for row in rows]
    if not measured:
        raise ValueError(
            f"debias={protocol.debias}: none of the {len(chosen)} unlabelled images of "
            f"{images.source} can be read"
        )
    return Largest(
        torch.stack([row for _, row in measured]).mean(dim=0),
        images=len(measured),
        seen=frozenset(seen for seen, _ in measured),
    )


def with_image_weight(
    model: Any, pieces: Sequence[Pieces], prompts: ClassEmbeddings, protocol: TopDownProtocol
) -> Sequence[ClassEmbeddings]:
    """Return the prompts for each image, with a share of the cosines of the prompts and the pooled
    image as offset.

    Args:
        model: embeds whole images as ``embed_image``; used only under an ``image_weight``.
        pieces: windows of the images, whose resized images are pooled whole.
        prompts: with the offset of all images.
        protocol: has the weight.
    """
    if protocol.image_weight == 0:
        return [prompts] * len(pieces)

    def offsets(stack: Tensor) -> Tensor:
        pooled = prompts.tie(model.embed_image(stack).float() @ prompts.vectors.T, dim=1)  # (B, K)
        return (0 if prompts.offset is None else prompts.offset) + protocol.image_weight * pooled

    whole = [fitted_to_patches(row.image, model.patch_stride, protocol) for row in pieces]
    return [prompts._replace(offset=offset) for offset in by_size(whole, offsets)]
