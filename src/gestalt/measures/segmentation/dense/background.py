"""Background rules: from the winning prompt of a pixel to its class.  H W pixels."""

import torch
from torch import Tensor

from gestalt.measures.segmentation.dense.winners import Winners


def name_pixels(winners: Winners, *, background: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Apply the protocol's background rule, whose class is ``background``; ``affinity`` was applied
    before, as a map among the others.

    Returns:
        (H, W) int64, the classes of the pixels; (H, W) float32, the score that is compared with the
        threshold, the best one or its probability; (H, W) int64, the classes before the threshold.
    """
    best, protocol = winners.among(), winners.protocol
    classes, score = winners.maps.classes[best.winner], best.value
    if best.total is not None:
        score = (best.value * winners.logit_scale - best.total).exp()
        if protocol.area_threshold is not None:
            classes, score = _without_small(
                winners, classes, score, total=best.total, background=background
            )
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


def _without_small(
    winners: Winners, classes: Tensor, score: Tensor, *, total: Tensor, background: int | None
) -> tuple[Tensor, Tensor]:
    """Drop the foreground classes that hold no more than a share of the foreground's pixels;
    probabilities do not change.

    A dense CRF runs a second time among the remaining classes, and gives its own
    probabilities.  Areas are those before the threshold.

    Source: wangf3014/SCLIP at b56bd30, clip_segmentor.py.
    """
    of_map, share = winners.maps.classes, winners.protocol.area_threshold
    assert share is not None
    areas = torch.bincount(classes.flatten(), minlength=int(of_map.max()) + 1)
    areas[background] = 0
    large = areas > share * areas.sum()
    large[background] = True
    remaining = large[of_map].nonzero()[:, 0]
    if len(remaining) == len(of_map):
        return classes, score
    best = winners.among(remaining)
    return of_map[remaining][best.winner], (best.value * winners.logit_scale - total).exp()
