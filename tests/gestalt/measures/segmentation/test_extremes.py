"""The best and the worst images are found without keeping all, on any number of ranks."""

import numpy as np
import pytest
import torch

from gestalt.measures.evaluation.pictures import ScoredImage
from gestalt.measures.segmentation.extremes import (
    PER_END,
    Extremes,
    best_and_worst,
    extremes_of,
)


def shown(index: int) -> ScoredImage:
    pixel = torch.zeros(1, 1, dtype=torch.uint8)
    return ScoredImage(
        index, str(index), image=pixel.expand(3, 1, 1), prediction=pixel, label=pixel
    )


def test_ties_go_to_the_lower_id_and_nan_is_never_an_extreme():
    assert best_and_worst({7: 0.5, 3: 0.5, 1: np.nan, 5: 0.5, 2: 0.9}) == ([2, 3], [5, 7])


@pytest.mark.parametrize(
    ("count", "best", "worst"), [(0, 0, 0), (1, 1, 0), (5, 3, 2), (8, 4, 4), (30, 4, 4)]
)
def test_no_image_is_at_both_ends(count, best, worst):
    highest, lowest = best_and_worst(dict(enumerate(np.linspace(0, 1, count))))
    assert (len(highest), len(lowest)) == (best, worst)
    assert not set(highest) & set(lowest)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("levels", [4, 1000])
def test_images_kept_by_ranks_include_the_extremes_of_the_whole_set(ranks, levels):
    draw = np.random.default_rng(levels)
    iou = draw.integers(0, levels, 50) / levels  # four levels: many ties
    kept: list[Extremes] = [{} for _ in range(ranks)]
    for index in draw.permutation(50).tolist():
        rank = index % ranks
        kept[rank] = extremes_of({**kept[rank], index: (iou[index], shown(index))})
    assert all(len(one) <= 2 * PER_END for one in kept)
    best, worst = best_and_worst(dict(enumerate(iou)))
    together = extremes_of({index: image for one in kept for index, image in one.items()})
    assert list(together) == best + worst
