"""Scores on the patch grid.  K prompts, M maps, I J windows, E shared width, h w patch grid; rows R = I h, columns C = J w."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.dense.pamr import pamr
from gestalt.evaluation.dense.windows import Pieces
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.evaluation.protocols import TopDownProtocol


class Maps(NamedTuple):
    """The maps that compete.

    Attributes:
        values: (M, R, C) float32; of equal values the first wins.
        classes: (M,) int64, the class that each stands for.
    """

    values: Tensor
    classes: Tensor


def cosines(pieces: Pieces, prompts: ClassEmbeddings) -> Tensor:
    """(K, R, C) float32, windows side by side.

    Raises:
        ValueError: the towers give what is no number.
    """
    rows, columns, width, height, breadth = pieces.features.shape
    flat = pieces.features.permute(2, 0, 3, 1, 4).reshape(width, -1)
    values = (prompts.vectors @ flat).reshape(-1, rows * height, columns * breadth)
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the model's embeddings hold values that are no numbers, so that no location has a nearest class")
    return values if prompts.twin is None else values[prompts.twin]


def grid_maps(pieces: Pieces, *, prompts: ClassEmbeddings, protocol: TopDownProtocol, logit_scale: float) -> Maps:
    """Cosines made scores, as far as that is done on the patch grid: all but the softmax over prompts."""
    values, classes = cosines(pieces, prompts), prompts.class_index
    if protocol.scores == "sigmoid":
        values = torch.sigmoid(protocol.score_scale * values + protocol.score_bias)
    if protocol.scores == "affinity":
        values = _affinity(values, pieces, prompts=prompts, top=protocol.top_classes, logit_scale=logit_scale)
        if protocol.background == "affinity":
            assert protocol.threshold is not None
            assert prompts.background is not None
            values = _with_background(values, pieces, threshold=protocol.threshold)
            classes = torch.cat([classes.new_tensor([prompts.background]), classes])
    if protocol.refinement == "pamr" and protocol.refined_at == "grid":
        values = _refined(values, pieces, protocol=protocol)
    return Maps(values, classes)


def by_window(values: Tensor, pieces: Pieces) -> Tensor:
    """(M, R, C) to (I * J, M, h, w)."""
    rows, columns, _, height, width = pieces.features.shape
    return values.reshape(-1, rows, height, columns, width).permute(1, 3, 0, 2, 4).flatten(0, 1)


def side_by_side(windows: Tensor, pieces: Pieces) -> Tensor:
    """Back from (I * J, M, h, w) to (M, R, C)."""
    rows, columns = pieces.features.shape[:2]
    height, width = windows.shape[-2:]
    whole = windows.reshape(rows, columns, *windows.shape[1:]).permute(2, 0, 3, 1, 4)
    return whole.reshape(-1, rows * height, columns * width)


def _affinity(values: Tensor, pieces: Pieces, *, prompts: ClassEmbeddings, top: int | None, logit_scale: float) -> Tensor:
    """Softmax over all prompts times softmax over the nearest few of the window's mean location."""
    logits = by_window(values, pieces) * logit_scale  # (I * J, K, h, w)
    everyone = logits.softmax(dim=1)
    if top is not None and top < logits.shape[1]:
        mean = functional.normalize(pieces.features.mean(dim=(3, 4)).flatten(0, 1), dim=1)  # (I * J, E)
        nearest = (mean @ prompts.vectors.T).topk(top, dim=1).indices
        left = torch.ones_like(logits[:, :, 0, 0], dtype=torch.bool).scatter_(1, nearest, False)
        logits = logits.masked_fill(left[:, :, None, None], float("-inf"))
    return side_by_side(everyone * logits.softmax(dim=1), pieces)


def _with_background(values: Tensor, pieces: Pieces, *, threshold: float) -> Tensor:
    """One more map in front: 1 where no score reaches the window's own threshold."""
    windows = by_window(values, pieces)
    best = windows.amax(dim=1, keepdim=True)
    bound = best.amax(dim=(2, 3), keepdim=True).clamp(max=threshold)
    return side_by_side(torch.cat([(best < bound).float(), windows], dim=1), pieces)


def _refined(values: Tensor, pieces: Pieces, *, protocol: TopDownProtocol) -> Tensor:
    """PAMR on each window's patch grid, guided by the window shrunk to it with corners aligned."""
    windows = by_window(values, pieces)
    guides = (cut(pieces, number) for number in range(len(windows)))
    refined = [
        pamr(
            functional.interpolate(guide[None], size=window.shape[-2:], mode="bilinear", align_corners=True)[0],
            window,
            iterations=protocol.refinement_iterations,
            dilations=protocol.refinement_dilations,
        )
        for guide, window in zip(guides, windows, strict=True)
    ]
    return side_by_side(torch.stack(refined), pieces)


def cut(pieces: Pieces, number: int) -> Tensor:
    """The pixels of a window, (3, rows, columns) float32 in [0, 255]."""
    top, left = pieces.starts[0][number // len(pieces.starts[1])], pieces.starts[1][number % len(pieces.starts[1])]
    return pieces.image[:, top : top + pieces.side[0], left : left + pieces.side[1]].float()
