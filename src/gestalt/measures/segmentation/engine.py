"""Top-down grouping: every location takes the nearest class, or the background by a rule.  B batch,
E shared width, K prompts, h w patch grid, H W pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gestalt.evaluation.confusion import as_map_type
from gestalt.evaluation.images import Size, sizes_of, upsample
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.dense.offsets import with_image_weight, with_prior
from gestalt.measures.segmentation.dense.scores import grid_maps, pieces_of
from gestalt.measures.segmentation.dense.winners import Winners, best_of_blocks
from gestalt.measures.segmentation.protocol import TopDownProtocol

VALUES_AT_ONCE = 1 << 25
"""Up-sampled values in memory at one time in ``upsampled_argmax`` (128 MiB in float32)."""

LARGEST_LOGIT_SCALE = 100.0
"""The largest value of a model's own scale: CLIP and GroupViT clamp it so."""


class TopDown(NamedTuple):
    """The segmentation of one image.

    Attributes:
        prediction: (H, W) class indices, in the ``map_type`` of the classes.
        grid: (h, w), the patch grid that it was up-sampled from.
        score: (H, W) float32, compared with the protocol's threshold.
        unbound: the same, the classes before the threshold.
    """

    prediction: Tensor
    grid: Size
    score: Tensor
    unbound: Tensor


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
            needs, or as ``dense_crf``.
    """
    pieces = pieces_of(model, images, protocol)
    sizes = sizes_of(images) if sizes is None else sizes
    scale = own_logit_scale(model, protocol)
    shifted = with_image_weight(model, pieces, prompts, protocol)
    shifted = with_prior(model, pieces, shifted, protocol)
    segmented = []
    # scores are float32, whatever the tower's precision
    with torch.autocast(pieces[0].features.device.type, enabled=False):
        for windows, size, corrected in zip(pieces, sizes, shifted, strict=True):
            winners = Winners(
                windows, grid_maps(windows, corrected, protocol, scale), protocol, size, scale
            )
            named, score, unbound = name_pixels(winners, background=prompts.background)
            named, unbound = (
                as_map_type(part, classes=prompts.classes) for part in (named, unbound)
            )
            segmented.append(TopDown(named, windows.grid, score, unbound))
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
    return min(float(scale.exp()), LARGEST_LOGIT_SCALE)


def upsampled_argmax(maps: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Up-sample maps (K, h, w) bilinearly, corners not aligned, and keep the largest at each pixel.

    A block of maps is up-sampled at a time, so the memory does not grow with K.  Equal values go to
    the first map.

    Returns:
        The largest values, (H, W) float, and their index in K, (H, W) int64.
    """
    step = max(1, VALUES_AT_ONCE // (size[0] * size[1]))
    best = best_of_blocks(upsample(block.contiguous(), size) for block in torch.split(maps, step))
    return best.value, best.winner


def name_pixels(winners: Winners, *, background: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the protocol's background rule, whose class is ``background``; ``affinity`` was applied
    before, as a map among the others.

    Under an ``area_threshold`` the foreground classes that hold no more than that share of the
    foreground's pixels, before the threshold, are dropped; probabilities do not change, but a dense
    CRF runs a second time among the remaining classes, and gives its own.

    Returns:
        (H, W) int64, the classes of the pixels; (H, W) float32, the score that is compared with the
        threshold, the best one or its probability; (H, W) int64, the classes before the threshold.

    Source: wangf3014/SCLIP at b56bd30, clip_segmentor.py, for the areas.
    """
    best, protocol, of_map = winners.among(), winners.protocol, winners.maps.classes
    classes, score = of_map[best.winner], best.value
    if best.total is not None:
        score = (best.value * winners.logit_scale - best.total).exp()
        if protocol.area_threshold is not None:
            areas = torch.bincount(classes.flatten(), minlength=int(of_map.max()) + 1)
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
