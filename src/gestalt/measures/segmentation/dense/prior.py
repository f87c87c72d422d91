"""Background prior: what resembles the border of the picture is likely background.  B images, D
tower width, h w patch grid.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.images import by_size, size_of
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.dense.windows import Pieces, fitted_to_patches
from gestalt.measures.segmentation.protocol import TopDownProtocol


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
