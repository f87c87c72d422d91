"""Top-down grouping: every location takes the nearest class, or the background by a rule.
B images, K prompts, H W pixels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.scores import grid_maps
from gestalt.measures.dense.windows import Pieces, cut_and_embed
from gestalt.measures.dense.winners import Winners
from gestalt.measures.evaluation.images import Size, as_map_type, sizes_of
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.corrections import with_corrections
from gestalt.support.devices import bin_counts

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
    model: DenseModel,
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
            values, of_map = grid_maps(windows, own, protocol, scale)
            winners = Winners(windows, values, of_map, protocol, size=size, logit_scale=scale)
            classes, score, before = name_pixels(winners, prompts)
            segmented.append(
                TopDown(
                    as_map_type(classes, prompts.classes),
                    pieces=windows,
                    score=score,
                    classes_before_threshold=as_map_type(before, prompts.classes),
                )
            )
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
