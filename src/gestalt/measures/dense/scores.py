"""Scores of prompts on the patch grid of windows.  K prompts, M maps, I J windows, E shared width,
h w patch grid; rows R = I h, columns C = J w.
"""

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.refine import pamr
from gestalt.measures.dense.windows import Pieces
from gestalt.measures.evaluation.prompts import ClassEmbeddings


def cosines(pieces: Pieces, prompts: ClassEmbeddings) -> Tensor:
    """Return the cosines of locations and prompts, with the prompts' offsets and the background's
    prior, (I * J, K, h, w) float32.
    """
    rows, columns, width, height, breadth = pieces.features.shape
    flat = pieces.features.permute(2, 0, 3, 1, 4).reshape(width, -1)
    values = (prompts.vectors @ flat).reshape(-1, rows * height, columns * breadth)
    values = prompts.tie(values, dim=0)
    if prompts.offset is not None:
        values = values + prompts.offset[:, None, None]
    if prompts.prior is not None:
        assert prompts.background is not None  # used_prompts
        of_background = prompts.class_index.eq(prompts.background)
        values = values + prompts.prior * of_background[:, None, None]
    windows = values.reshape(-1, rows, height, columns, breadth).permute(1, 3, 0, 2, 4)
    return windows.flatten(0, 1)


def grid_maps(
    pieces: Pieces, prompts: ClassEmbeddings, protocol: TopDownProtocol, logit_scale: float
) -> tuple[Tensor, Tensor]:
    """Turn cosines into scores, as far as that happens on the patch grid: all but the softmax over
    prompts.

    Returns:
        (I * J, M, h, w) float32, the maps that compete, ties go to the first; (M,) int64, the class
            of each.
    """
    values, classes = cosines(pieces, prompts), prompts.class_index
    if protocol.scores == "sigmoid":
        values = torch.sigmoid(protocol.score_scale * values + protocol.score_bias)
    if protocol.scores == "affinity":
        values = _affinity(
            values, pieces, prompts, top=protocol.top_classes, logit_scale=logit_scale
        )
        if protocol.background == "affinity":
            assert prompts.background is not None
            best = values.amax(dim=1, keepdim=True)
            # a map in front that is 1 where no score reaches the window's threshold
            bound = best.amax(dim=(2, 3), keepdim=True).clamp(max=protocol.threshold)
            values = torch.cat([(best < bound).float(), values], dim=1)
            classes = torch.cat([classes.new_full((1,), prompts.background), classes])
    if protocol.refinement == "pamr" and protocol.refined_at == "grid":
        refined = []
        for number, window in enumerate(values):
            pixels = pieces.image[:, *pieces.place(number)].float()
            # the window, shrunk to its patch grid with corners aligned
            guide = functional.interpolate(
                pixels[None], size=window.shape[-2:], mode="bilinear", align_corners=True
            )[0]
            refined.append(pamr(guide, window, protocol))
        values = torch.stack(refined)
    return values, classes


def side_by_side(windows: Tensor, pieces: Pieces) -> Tensor:
    """Reshape (I * J, M, h, w) to (M, R, C)."""
    rows, columns = pieces.features.shape[:2]
    height, width = windows.shape[-2:]
    whole = windows.reshape(rows, columns, *windows.shape[1:]).permute(2, 0, 3, 1, 4)
    return whole.reshape(-1, rows * height, columns * width)


def _affinity(
    values: Tensor, pieces: Pieces, prompts: ClassEmbeddings, top: int | None, logit_scale: float
) -> Tensor:
    """Multiply the softmax over all prompts by the softmax over those nearest to the window's mean
    location.
    """
    logits = values * logit_scale
    over_all = logits.softmax(dim=1)
    if top is not None and top < logits.shape[1]:
        # (I * J, E)
        mean = functional.normalize(pieces.features.mean(dim=(3, 4)).flatten(0, 1), dim=1)
        nearest = (mean @ prompts.vectors.T).topk(top, dim=1).indices
        dropped = torch.ones_like(logits[:, :, 0, 0], dtype=torch.bool).scatter_(1, nearest, False)
        logits = logits.masked_fill(dropped[:, :, None, None], float("-inf"))
    return over_all * logits.softmax(dim=1)
