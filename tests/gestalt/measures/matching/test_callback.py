"""Clusters matched to classes: against every permutation, loops over pixels, and their laws; the
tokens that centres are fitted to.  The slow reference of the clusters is in
``test_parity_others.py``.
"""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.grouping.engine import kmeans_centres
from gestalt.measures.matching.callback import (
    NO_CLASS,
    MatchedIoU,
    MatchedScore,
    best_match,
    draw_tokens,
    fit_centres,
    set_tokens,
)
from gestalt.measures.matching.protocol import MatchingProtocol
from tests.gestalt.painted import NAMES, PaintedModel, blocky_label, painted

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


def scored() -> MatchedScore:
    """The metric over all images."""
    metric = MatchedIoU(CLASSES)
    groups, labels = zip(*map(pair, range(LENGTH)), strict=True)
    metric.update(groups, labels, torch.arange(LENGTH))
    return metric.compute()  # type: ignore[no-any-return]


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


def test_the_counts_equal_a_loop_over_pixels():
    score = scored()
    slow = np.zeros((LENGTH, 3, CLASSES), dtype=int)
    for index in range(LENGTH):
        groups, label = pair(index)
        for group, truth in zip(groups.flatten().tolist(), label.flatten().tolist(), strict=True):
            if truth != 255:
                said = int(score.match[group])
                slow[index, 0, truth] += said == truth
                slow[index, 1, said] += 1
                slow[index, 2, truth] += 1
    np.testing.assert_array_equal(score.image_counts, slow)
    np.testing.assert_array_equal(score.counts, slow.sum(axis=0))
    iou = slow.sum(axis=0)[0] / (slow.sum(axis=0)[1] + slow.sum(axis=0)[2] - slow.sum(axis=0)[0])
    assert score.miou == pytest.approx(iou.mean())
    assert score.pixel_accuracy == slow[:, 0].sum() / slow[:, 2].sum()


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


PROTOCOL = MatchingProtocol(
    name="test",
    input_size=32,
    resize="short_side",
    multiple=4,
    fit_images=4,
    fit_tokens=9,
    upsample="nearest",
)
IMAGES = [painted(blocky_label(8, 8, block=4, seed=index)) for index in range(4)]


def test_the_draw_is_a_pure_function_of_seed_and_image():
    tokens = torch.arange(60.0).reshape(30, 2)
    one, same, seed, image = (
        draw_tokens(tokens, index, protocol=dataclasses.replace(PROTOCOL, seed=seed))
        for index, seed in ((1, 0), (1, 0), (1, 4), (2, 0))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, seed)
    assert not torch.equal(one, image)
    assert len(draw_tokens(tokens[:5], 1, protocol=PROTOCOL)) == 5


class Images(list):
    def sample(self, index):
        return {"image": self[index]}


def centres(model, images):
    """Of every image."""
    return fit_centres(
        model,
        Images(images),
        clusters=len(NAMES),
        protocol=PROTOCOL,
        device=torch.device("cpu"),
    )


def test_the_centres_are_fitted_to_the_tokens_drawn_of_each_image():
    model = PaintedModel()
    drawn = [
        draw_tokens(set_tokens(model, image[None], PROTOCOL)[0].flatten(1).T, index, PROTOCOL)
        for index, image in enumerate(IMAGES)
    ]
    expected = kmeans_centres(torch.cat(drawn).numpy(), len(NAMES), PROTOCOL)
    np.testing.assert_array_equal(centres(model, IMAGES), expected)


def test_nan_tokens_are_refused():
    model = PaintedModel()
    model.scale.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        centres(model, IMAGES)
