"""Background rules: from the winning prompt of a pixel to its class.  H W pixels."""

import torch
from torch import Tensor

from gestalt.measures.segmentation.dense.winners import Winners


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
