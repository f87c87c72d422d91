"""The best and the worst images are found without keeping all, on any number of ranks."""

import numpy as np
import pytest
import torch

from gestalt.measures.evaluation.predictions import ScoredImage
from gestalt.measures.segmentation.class_maps import PER_END, Extremes, add_extreme, best_and_worst


def shown(index: int) -> ScoredImage:
    pixel = torch.zeros(1, 1, dtype=torch.uint8)
    return ScoredImage(
        index, str(index), image=pixel.expand(3, 1, 1), prediction=pixel, label=pixel
    )


def test_ties_go_to_the_lower_id_and_nan_is_never_an_extreme():
    iou, ids = np.array([0.5, 0.5, np.nan, 0.5, 0.9]), np.array([7, 3, 1, 5, 2])
    best, worst = best_and_worst(iou, ids)
    assert ids[best].tolist() == [2, 3]
    assert ids[worst].tolist() == [5, 7]


@pytest.mark.parametrize(
    ("count", "best", "worst"), [(0, 0, 0), (1, 1, 0), (5, 3, 2), (8, 4, 4), (30, 4, 4)]
)
def test_no_image_is_at_both_ends(count, best, worst):
    highest, lowest = best_and_worst(np.linspace(0, 1, count), np.arange(count))
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
        kept[rank] = add_extreme(kept[rank], shown(index), iou=iou[index])
    assert all(len(one) <= 2 * PER_END for one in kept)
    found = {index for one in kept for index in one}
    best, worst = best_and_worst(iou, np.arange(50))
    assert {*best, *worst} <= found
