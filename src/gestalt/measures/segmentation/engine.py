"""Top-down grouping: every location takes the nearest class, or the background by a rule.
Constants may be added to the cosines of each prompt, corrections that need no labels, and a
background prior, by which what resembles the border of the picture is likely background.  B images,
E shared width, D tower width, K prompts, h w patch grid, H W pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.context import SourceImages
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.scores import cosines, grid_maps
from gestalt.measures.dense.windows import Pieces, cut_and_embed, fitted_to_patches
from gestalt.measures.dense.winners import Winners, best_of_blocks
from gestalt.measures.evaluation.images import (
    Size,
    as_map_type,
    by_size,
    size_of,
    sizes_of,
    upsample,
)
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.support.devices import bin_counts, on_host, send
from gestalt.support.files import value_hash
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


def pixels_hash(image: Tensor) -> int:
    """Hash the pixels and the size of an image (3, H, W) uint8, the same in every process."""
    return value_hash(str(tuple(image.shape)).encode() + image.cpu().numpy().tobytes())


@torch.no_grad()
def largest_cosines(
    model: Any,
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
    model: Any, pieces: Sequence[Pieces], prompts: ClassEmbeddings, protocol: TopDownProtocol
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
    cells = pieces.features.shape[-2:]
    # cells end where whole patches end, if the rest is cut off
    side = map(min, pieces.side, (n * s for n, s in zip(cells, stride, strict=True)))
    size = map(min, size_of(pieces.image), size_of(image))
    axes = zip(cells, side, pieces.starts, size, strict=True)
    down, across = (
        torch.cat([start + (torch.arange(n) + 0.5) * side / n for start in starts]) * 2 / length - 1
        for n, side, starts, length in axes
    )
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1).to(values.dtype)
    places = send(places, values.device)
    return functional.grid_sample(
        values[None, None], places[None], padding_mode="border", align_corners=False
    )[0, 0]


VALUES_AT_ONCE = 1 << 25
"""Up-sampled values in memory at one time in ``upsampled_argmax`` (128 MiB in float32)."""

MAX_LOGIT_SCALE = 100.0
"""The largest value of a model's own scale: CLIP and GroupViT clamp it so."""


class TopDown(NamedTuple):
    """The segmentation of one image.

    Attributes:
        prediction: (H, W) class indices, in the ``map_type`` of the classes.
        pieces: the windows of the image, on whose patch grid it was scored.
        score: (H, W) float32, compared with the protocol's threshold.
        classes_before_threshold: (H, W), in the same type.
    """

    prediction: Tensor
    pieces: Pieces
    score: Tensor
    classes_before_threshold: Tensor


@torch.no_grad()
def top_down(
    model: Any,
    images: Sequence[Tensor],
    prompts: ClassEmbeddings,
    protocol: TopDownProtocol,
    sizes: Sequence[Size] | None = None,
) -> list[TopDown]:
    """Segment a batch.

    Args:
        model: in eval mode.
        images: B images, (3, H, W) uint8, each of its own size.
        prompts: the label set, embedded under the same protocol, on the images' device.
        protocol: resizing, windows, scores, background rule, refinement.
        sizes: B sizes (H, W) of the labels; those of the images by default.

    Raises:
        ValueError: a window that the tower cannot take, a model that lacks a part the protocol
            needs, or a CRF whose library is missing.
    """
    pieces = cut_and_embed(model, images, protocol)
    sizes = sizes or sizes_of(images)
    scale = own_logit_scale(model, protocol)
    corrected = with_corrections(model, pieces, prompts, protocol)
    segmented = []
    # scores are float32, whatever the tower's precision
    with torch.autocast(pieces[0].features.device.type, enabled=False):
        for windows, size, own in zip(pieces, sizes, corrected, strict=True):
            maps = grid_maps(windows, own, protocol, scale)
            winners = Winners(windows, *maps, protocol, size, scale)
            classes, score, before = name_pixels(winners, prompts)
            classes, before = (as_map_type(part, prompts.classes) for part in (classes, before))
            segmented.append(TopDown(classes, windows, score, before))
    return segmented


def own_logit_scale(model: object, protocol: TopDownProtocol) -> float:
    """Return the protocol's logit scale, or the model's scale.

    Raises:
        ValueError: the protocol needs the model's, and it has none.
    """
    if protocol.logit_scale is not None:
        return protocol.logit_scale
    if (
        protocol.scores != "affinity"
        and protocol.background != "probability"
        and protocol.refinement != "crf"
    ):
        return 1.0
    scale = getattr(model, "logit_scale", None)
    if not isinstance(scale, Tensor):
        raise ValueError(
            f"protocol {protocol.name} takes the model's logit_scale, and {type(model).__name__} "
            "has none"
        )
    return min(float(scale.exp()), MAX_LOGIT_SCALE)


def upsampled_argmax(maps: Tensor, size: Size) -> Tensor:
    """Up-sample maps (K, h, w) bilinearly, corners not aligned, and return the index of the largest
    at each pixel, (H, W) int64.

    A block of maps is up-sampled at a time, so the memory does not grow with K.  Equal values go to
    the first map.
    """
    step = max(1, VALUES_AT_ONCE // (size[0] * size[1]))
    blocks = (upsample(block.contiguous(), size) for block in torch.split(maps, step))
    return best_of_blocks(blocks).winner


def name_pixels(winners: Winners, prompts: ClassEmbeddings) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the protocol's background rule, whose class is that of the prompts; ``affinity`` was
    applied before, as a map among the others.

    Under an ``area_threshold`` the foreground classes that hold no more than that share of the
    foreground's pixels, before the threshold, are dropped; probabilities do not change, but a dense
    CRF runs a second time among the remaining classes, and gives its own.

    Returns:
        (H, W) int64, the classes of the pixels; (H, W) float32, the score that is compared with the
        threshold, the best one or its probability; (H, W) int64, the classes before the threshold.

    Source: wangf3014/SCLIP at b56bd30, clip_segmentor.py, for the areas.
    """
    best, protocol, of_map = winners.among(), winners.protocol, winners.classes
    background = prompts.background
    classes, score = of_map[best.winner], best.value
    if best.total is not None:
        score = (best.value * winners.logit_scale - best.total).exp()
        if protocol.area_threshold is not None:
            areas = bin_counts(classes, prompts.classes)
            areas[background] = 0
            large = areas > protocol.area_threshold * areas.sum()
            large[background] = True
            remaining = large[of_map].nonzero()[:, 0]
            if len(remaining) < len(of_map):
                again = winners.among(remaining)
                classes = of_map[remaining][again.winner]
                score = (again.value * winners.logit_scale - best.total).exp()
    if (
        protocol.threshold is None
        or protocol.background == "affinity"
        or (protocol.background == "probability" and best.total is None)
    ):
        return classes, score, classes
    assert background is not None
    below = (
        score <= protocol.threshold
        if protocol.background == "constant"
        else score < protocol.threshold
    )
    # a constant channel comes before the others, so it wins a tie
    return classes.masked_fill(below, background), score, classes
