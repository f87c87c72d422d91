"""Corrections of cosines that need no labels: offsets of the prompts, from unlabelled images or
from the pooled image, and a background prior, by which what resembles the border of the picture is
likely background.  B images, D tower width, K prompts, h w patch grid, H W pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.data_modules.pixels.photographs import pixels_hash
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.context import SourceImages
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.scores import cosines
from gestalt.measures.dense.windows import Pieces, cut_and_embed, fitted_to_patches
from gestalt.measures.evaluation.images import Size, by_size, size_of
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.support.devices import on_host, send
from gestalt.support.ranks import shared_by_ranks

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


@torch.no_grad()
def largest_cosines(
    model: DenseModel,
    images: SourceImages,
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
            largest = [cosines(windows, prompts).amax(dim=(0, 2, 3)).double() for windows in pieces]
        (rows,) = on_host(torch.stack(largest))
        return [(pixels_hash(image), row) for image, row in zip(readable, rows, strict=True)]

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


def with_corrections(
    model: DenseModel, pieces: Sequence[Pieces], prompts: ClassEmbeddings, protocol: TopDownProtocol
) -> list[ClassEmbeddings]:
    """Return the prompts of each image, with a share of the cosines of the prompts and the pooled
    image as offset, and with the prior of its background, as the protocol says.

    Args:
        model: embeds whole images; used only under an ``image_weight`` or a ``prior``.
        pieces: windows of the images, whose resized images are taken whole.
        prompts: with the offset of all images.
        protocol: has the weights.
    """
    corrected = [prompts] * len(pieces)
    if protocol.image_weight == protocol.prior == 0:
        return corrected
    whole = [fitted_to_patches(row.image, model.patch_stride, protocol) for row in pieces]

    def offsets(stack: Tensor) -> Tensor:
        pooled = prompts.tie(model.embed_image(stack).float() @ prompts.vectors.T, dim=1)  # (B, K)
        return (0 if prompts.offset is None else prompts.offset) + protocol.image_weight * pooled

    if protocol.image_weight != 0:
        corrected = [prompts._replace(offset=offset) for offset in by_size(whole, offsets)]
    if protocol.prior == 0:
        return corrected
    unlike = by_size(
        whole,
        lambda stack: unlike_border(model.patch_tokens(stack, projected=False).float()),
    )
    images = zip(corrected, pieces, whole, unlike, strict=True)
    return [
        embeddings._replace(
            prior=protocol.prior_offset
            - protocol.prior * at_cells(values, row, image, model.patch_stride)
        )
        for embeddings, row, image, values in images
    ]


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


def at_cells(values: Tensor, pieces: Pieces, image: Tensor, stride: Size) -> Tensor:
    """Resample a map (h, w) of a whole image bilinearly at the cells of its windows, (R, C)."""
    centres = []
    for axis, cells in enumerate(pieces.features.shape[-2:]):
        # cells end where whole patches end, if the rest is cut off
        side = min(pieces.side[axis], cells * stride[axis])
        length = min(size_of(pieces.image)[axis], size_of(image)[axis])
        inside = (torch.arange(cells) + 0.5) * side / cells
        pixels = torch.cat([start + inside for start in pieces.starts[axis]])
        centres.append(pixels * 2 / length - 1)
    down, across = centres
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).to(values.dtype)
    places = send(places, values.device)
    return functional.grid_sample(
        values[None, None], places[None], padding_mode="border", align_corners=False
    )[0, 0]
