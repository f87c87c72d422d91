"""Constants that are added to the cosines of each prompt: corrections that need no labels, and a
background prior, by which what resembles the border of the picture is likely background.  B images,
K prompts, D tower width, h w patch grid.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.data_modules.unlabelled import FolderImages, SourceImages
from gestalt.evaluation.images import by_size, size_of
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.losses.gather import shared_by_ranks
from gestalt.measures.segmentation.dense.scores import (
    Pieces,
    cosines,
    cut_and_embed,
    fitted_to_patches,
)
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


def unlike_border(features: Tensor) -> Tensor:
    """Return how little each location resembles the outer ring of the map, standardised over it.

    The mean of the ring's unit features is compared with each location by the cosine.
    (B, D, h, w) to (B, h, w), mean 0 and standard deviation 1; 0 where all locations are equal.
    """
    unit = functional.normalize(features, dim=1)
    ring = torch.ones_like(unit[0, 0])
    ring[1:-1, 1:-1] = 0
    border = (unit * ring).sum(dim=(2, 3), keepdim=True)  # its length does not matter
    unlike = -functional.cosine_similarity(features, border, dim=1)
    centred = unlike - unlike.mean(dim=(1, 2), keepdim=True)
    return centred / centred.std(dim=(1, 2), correction=0, keepdim=True).clamp(min=1e-6)


def with_prior(
    model: Any,
    pieces: Sequence[Pieces],
    prompts: Sequence[ClassEmbeddings],
    protocol: TopDownProtocol,
) -> Sequence[ClassEmbeddings]:
    """Return the prompts of each image with the prior of its background, ``prior_offset - prior *
    unlike_border``.

    The border is that of the whole picture, also under windows, at whose cells the map is resampled
    bilinearly.
    """
    if protocol.prior == 0:
        return prompts
    whole = [fitted_to_patches(row.image, model.patch_stride, protocol) for row in pieces]

    def unlike(stack: Tensor) -> Tensor:
        return unlike_border(model.patch_tokens(stack, projected=False).float())

    shifted = []
    for embeddings, row, image, values in zip(
        prompts, pieces, whole, by_size(whole, unlike), strict=True
    ):
        cells = row.features.shape[-2:]
        # cells end where whole patches end, if the rest is cut off
        side = map(min, row.side, (n * s for n, s in zip(cells, model.patch_stride, strict=True)))
        size = map(min, size_of(row.image), size_of(image))
        axes = zip(cells, side, row.starts, size, strict=True)
        down, across = (
            torch.cat([start + (torch.arange(n) + 0.5) * side / n for start in starts]) * 2 / length
            - 1
            for n, side, starts, length in axes
        )
        places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).to(values)
        resampled = functional.grid_sample(
            values[None, None], places[None], padding_mode="border", align_corners=False
        )
        prior = protocol.prior_offset - protocol.prior * resampled[0, 0]
        shifted.append(embeddings._replace(prior=prior))
    return shifted
