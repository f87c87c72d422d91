"""Jaccard similarity: against a slow loop, under permutation, and the same number on any number of
ranks.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.grouping.callback import JaccardScore, JaccardSimilarity, best_overlaps
from gestalt.support.label_values import IGNORE
from tests.gestalt.measures.stage import count

GROUPS = 8
LENGTH = 7
EMPTY = 3
"""The image that shows no object."""


def pair(index: int) -> tuple[Tensor, Tensor]:
    """Groups and objects of one image; its size, its difficulty and its number of objects depend on
    the index.
    """
    draw = np.random.default_rng([11, index])
    size = (int(draw.integers(4, 12)), int(draw.integers(4, 30)))
    instance = draw.integers(0, 1 if index == EMPTY else 2 + index, size).astype(np.uint8)
    groups = np.where(
        draw.random(size) < index / 9, instance % GROUPS, draw.integers(0, GROUPS, size)
    ).astype(np.uint8)
    instance[draw.random(size) < 0.2] = IGNORE
    return torch.from_numpy(groups), torch.from_numpy(instance)


def score_of(pairs: list[tuple[Tensor, Tensor]]) -> JaccardScore:
    """The metric over some images."""
    metric = JaccardSimilarity()
    for index, (groups, instance) in enumerate(pairs):
        count(metric, groups, instance, index)
    score: JaccardScore = metric.compute()
    return score


@pytest.mark.parametrize("with_background", [False, True])
def test_jaccard_is_the_mean_over_objects_of_their_best_overlap(with_background):
    pairs = [pair(index) for index in range(LENGTH)]
    score = score_of(pairs)
    found = score.image_jaccard_with_background if with_background else score.image_jaccard
    expected = []
    for groups, instance in pairs:
        best = [
            inside / union
            for value, inside, union, _ in best_overlaps(groups, instance).tolist()
            if value > 0 or with_background
        ]
        shows_objects = bool(instance[instance != IGNORE].any())
        expected.append(sum(best) / len(best) if shows_objects else math.nan)
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    mean = score.jaccard_with_background if with_background else score.jaccard
    assert mean == pytest.approx(np.nanmean(expected), rel=1e-15)


def test_jaccard_is_averaged_over_images_and_not_over_objects():
    one = torch.tensor([[0, 0, 1, 1]])
    score = score_of([(one, one + 1), (one * 0, torch.tensor([[1, 2, 3, 4]]))])
    assert score.image_jaccard.tolist() == [1, 0.25]
    assert score.jaccard == 0.625  # over the six objects it would be 0.5


def test_an_image_without_objects_is_seen_and_counts_in_neither_mean():
    whole = torch.zeros(2, 2, dtype=torch.uint8)
    object_half = torch.tensor([[0, 0], [1, 1]])
    score = score_of([(whole, object_half), (whole, whole), (whole, whole + IGNORE)])
    assert (score.images, score.images_with_objects, score.objects) == (3, 1, 1)
    np.testing.assert_array_equal(score.image_jaccard, [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(score.image_jaccard_with_background, [0.5, np.nan, np.nan])
    assert score.jaccard_with_background == 0.5
    assert math.isnan(score_of([(whole, whole)]).jaccard)


@pytest.mark.parametrize("kind", ["bytes", "large values", "masks"])
def test_best_overlaps_equal_a_loop_over_objects_and_groups(kind):
    draw = torch.Generator().manual_seed(3)
    for trial in range(40):
        groups, instance = pair(trial % LENGTH)
        names, shift = groups.unique(), 5000 if kind == "large values" else 0
        masks = torch.stack([groups == name for name in names])
        if kind == "masks":
            masks = groups = torch.rand(1 + trial % 4, *instance.shape, generator=draw) < trial / 40
            names = torch.arange(len(masks))
        instance = (
            torch.where(instance == IGNORE, IGNORE, instance.long() + shift) if shift else instance
        )
        rows = []
        for value in instance[instance != IGNORE].unique():
            truth = instance == value
            counts = [
                (int((mask & truth).sum()), int(((mask | truth) & (instance != IGNORE)).sum()))
                for mask in masks
            ]
            best = max(
                range(len(masks)),
                key=lambda index: (Fraction(*counts[index]), counts[index][0], -index),
            )
            rows.append([int(value), *counts[best], int(names[best]) + shift])
        overlaps = best_overlaps(groups.long() + shift if shift else groups, instance)
        assert overlaps.dtype == torch.int64
        assert overlaps.tolist() == rows


@pytest.mark.parametrize(
    ("groups", "instance", "message"),
    [
        (
            torch.zeros(2, 3),
            torch.zeros(3, 2),
            r"sample 9: the groups are .* \(2, 3\), the objects \(3, 2\); groups must have",
        ),
        (torch.ones(0, 1, 1) > 0, torch.zeros(1, 1, dtype=torch.uint8), "sample 9: no groups"),
        (
            torch.zeros(1, 1),
            torch.zeros(1, 1, dtype=torch.uint8),
            "sample 9: the groups must be integers of at least 0, got torch.float32",
        ),
    ],
)
def test_what_cannot_be_counted_names_the_sample(groups, instance, message):
    with pytest.raises(ValueError, match=message):
        count(JaccardSimilarity(), groups, instance, 9)
