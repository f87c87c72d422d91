"""Clusters matched to classes: against every permutation, and their laws; the draw of tokens.  The
slow reference of the centres and of the clusters is in ``test_parity_others.py``.
"""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.matching.callback import (
    NO_CLASS,
    MatchedIoU,
    best_match,
    draw_tokens,
    set_tokens,
)
from gestalt.measures.matching.protocol import MatchingProtocol
from gestalt.measures.segmentation.mean_iou import MeanIoU
from tests.gestalt.measures.stage import count
from tests.gestalt.painted import PaintedModel

CLASSES, LENGTH = 4, 6


def pair(index: int) -> tuple[Tensor, Tensor]:
    """Clusters and label (H, W) of an image, some of it ignored, both drawn."""
    draw = torch.Generator().manual_seed(index)
    size = (5 + index % 3, 6)
    label = torch.randint(CLASSES, size, generator=draw)
    groups = torch.where(
        torch.rand(size, generator=draw) < 0.6,
        (label + 1) % CLASSES,
        torch.randint(CLASSES, size, generator=draw),
    )
    return groups.to(torch.uint8), label.masked_fill(
        torch.rand(size, generator=draw) < 0.1, 255
    ).to(torch.uint8)


@pytest.mark.parametrize(("clusters", "classes"), [(4, 4), (3, 5), (5, 3)])
def test_the_match_is_optimal_over_all_permutations(clusters, classes):
    confusion = np.random.default_rng([clusters, classes]).integers(50, size=(clusters, classes))
    match = best_match(confusion)
    most = max(
        sum(confusion[row, column] for row, column in enumerate(columns) if column < classes)
        for columns in permutations(range(max(clusters, classes)), clusters)
    )
    named = match != NO_CLASS
    assert confusion[named, match[named]].sum() == most
    assert named.sum() == min(clusters, classes) == len(set(match[named].tolist()))


def test_the_counts_are_those_of_clusters_named_by_their_classes():
    metric, named = MatchedIoU(CLASSES), MeanIoU(CLASSES)
    for index in range(LENGTH):
        count(metric, *pair(index), index)
    score = metric.compute()
    for index in range(LENGTH):
        groups, label = pair(index)
        count(named, torch.from_numpy(score.match)[groups.long()], label, index)
    expected = named.compute()
    np.testing.assert_array_equal(score.image_counts, expected.image_counts)
    assert (score.miou, score.pixel_accuracy) == (expected.miou, expected.pixel_accuracy)
    assert score.match.tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("odd", range(3))
def test_an_image_unlike_the_others_does_not_decide_the_match(odd):
    label = torch.tensor([[0, 0, 1, 1]], dtype=torch.uint8)
    clusters = [1 - label if index == odd else label for index in range(3)]
    metric = MatchedIoU(2)
    metric.update(clusters, [label] * 3, torch.arange(3))
    assert metric.compute().match.tolist() == [0, 1]


def test_an_unmatched_cluster_has_no_class_and_its_pixels_count_as_wrong():
    metric = MatchedIoU(2, clusters=3)
    metric.update([torch.tensor([[0, 0, 1, 2]])], [torch.tensor([[0, 0, 1, 0]])], torch.zeros(1))
    score = metric.compute()
    assert score.match.tolist() == [0, 1, NO_CLASS]
    assert score.counts.tolist() == [[2, 1], [2, 1], [3, 1]]


PROTOCOL = MatchingProtocol(name="test", input_size=16, resize="square", fit_tokens=9)


def test_the_seed_decides_the_draw_and_few_tokens_are_all_drawn():
    tokens = torch.arange(60.0).reshape(30, 2)
    one, other = (
        draw_tokens(tokens, 1, protocol=dataclasses.replace(PROTOCOL, seed=seed)) for seed in (0, 4)
    )
    assert len(one) == 9
    assert not torch.equal(one, other)
    assert len(draw_tokens(tokens[:5], 1, protocol=PROTOCOL)) == 5


def test_nan_tokens_are_refused():
    model = PaintedModel()
    model.scale.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        set_tokens(model, torch.zeros(1, 3, 16, 16, dtype=torch.uint8), PROTOCOL)
