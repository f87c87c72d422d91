"""Scores on the patch grid.  K prompts, M maps, I J windows, E shared width, h w patch grid; rows R
= I h, columns C = J w.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.dense.pamr import pamr
from gestalt.measures.segmentation.dense.windows import Pieces
from gestalt.measures.segmentation.protocol import TopDownProtocol


class Maps(NamedTuple):
    """The maps that compete.

    Attributes:
        values: (M, R, C) float32; ties go to the first.
        classes: (M,) int64, the class of each.
    """

    values: Tensor
    classes: Tensor


def cosines(pieces: Pieces, prompts: ClassEmbeddings) -> Tensor:
    """Return the cosines of locations and prompts, with the prompts' offsets and the background's
    prior, (K, R, C) float32, windows side by side.

    Raises:
        ValueError: an embedding contains NaN or infinity.
    """
    rows, columns, width, height, breadth = pieces.features.shape
    flat = pieces.features.permute(2, 0, 3, 1, 4).reshape(width, -1)
    values = (prompts.vectors @ flat).reshape(-1, rows * height, columns * breadth)
    if not bool(torch.isfinite(values).all()):
        raise ValueError(
            "the model's embeddings contain NaN or infinity, so no location has a nearest class"
        )
    values = prompts.tie(values, dim=0)
    if prompts.offset is not None:
        values = values + prompts.offset[:, None, None]
    if prompts.prior is not None:
        assert prompts.background is not None  # used_prompts
        of_background = prompts.class_index.eq(prompts.background)
        values = values + prompts.prior * of_background[:, None, None]
    return values


def grid_maps(
    pieces: Pieces, prompts: ClassEmbeddings, protocol: TopDownProtocol, logit_scale: float
) -> Maps:
    """Turn cosines into scores, as far as that happens on the patch grid: all but the softmax over
    prompts.
    """
    values, classes = cosines(pieces, prompts), prompts.class_index
    if protocol.scores == "sigmoid":
        values = torch.sigmoid(protocol.score_scale * values + protocol.score_bias)
    if protocol.scores == "affinity":
        values = _affinity(
            values, pieces, prompts=prompts, top=protocol.top_classes, logit_scale=logit_scale
        )
        if protocol.background == "affinity":
            assert prompts.background is not None
            windows = by_window(values, pieces)
            best = windows.amax(dim=1, keepdim=True)
            # a map in front that is 1 where no score reaches the window's threshold
            bound = best.amax(dim=(2, 3), keepdim=True).clamp(max=protocol.threshold)
            values = side_by_side(torch.cat([(best < bound).float(), windows], dim=1), pieces)
            classes = torch.cat([classes.new_tensor([prompts.background]), classes])
    if protocol.refinement == "pamr" and protocol.refined_at == "grid":
        values = _refined(values, pieces, protocol)
    return Maps(values, classes)


def by_window(values: Tensor, pieces: Pieces) -> Tensor:
    """Reshape (M, R, C) to (I * J, M, h, w)."""
    rows, columns, _, height, width = pieces.features.shape
    return values.reshape(-1, rows, height, columns, width).permute(1, 3, 0, 2, 4).flatten(0, 1)


def side_by_side(windows: Tensor, pieces: Pieces) -> Tensor:
    """Reshape (I * J, M, h, w) to (M, R, C)."""
    rows, columns = pieces.features.shape[:2]
    height, width = windows.shape[-2:]
    whole = windows.reshape(rows, columns, *windows.shape[1:]).permute(2, 0, 3, 1, 4)
    return whole.reshape(-1, rows * height, columns * width)


def _affinity(
    values: Tensor, pieces: Pieces, *, prompts: ClassEmbeddings, top: int | None, logit_scale: float
) -> Tensor:
    """Multiply the softmax over all prompts by the softmax over those nearest to the window's mean
    location.
    """
    logits = by_window(values, pieces) * logit_scale  # (I * J, K, h, w)
    over_all = logits.softmax(dim=1)
    if top is not None and top < logits.shape[1]:
        # (I * J, E)
        mean = functional.normalize(pieces.features.mean(dim=(3, 4)).flatten(0, 1), dim=1)
        nearest = (mean @ prompts.vectors.T).topk(top, dim=1).indices
        dropped = torch.ones_like(logits[:, :, 0, 0], dtype=torch.bool).scatter_(1, nearest, False)
        logits = logits.masked_fill(dropped[:, :, None, None], float("-inf"))
    return side_by_side(over_all * logits.softmax(dim=1), pieces)


def _refined(values: Tensor, pieces: Pieces, protocol: TopDownProtocol) -> Tensor:
    """Apply PAMR on each window's patch grid, guided by the window shrunk to it with corners
    aligned.
    """
    refined = []
    for number, window in enumerate(by_window(values, pieces)):
        pixels = pieces.image[:, *pieces.place(number)].float()
        guide = functional.interpolate(
            pixels[None], size=window.shape[-2:], mode="bilinear", align_corners=True
        )[0]
        refined.append(
            pamr(
                guide,
                window,
                iterations=protocol.refinement_iterations,
                dilations=protocol.refinement_dilations,
            )
        )
    return side_by_side(torch.stack(refined), pieces)
