"""k-NN and principal components, against slow or known answers.  D width."""

import math

import pytest
import torch
from torch.nn import functional

from gestalt.pretraining.nearest import NEIGHBOURS, TEMPERATURE, knn_predict, mean_iou, patch_labels, principal_colours


def knn_accuracy(bank, labels, queries, truth):
    return (knn_predict(bank, labels, queries) == truth).float().mean().item()


def blobs(count, *, classes=4, noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.eye(classes)[labels] + noise * torch.randn(count, classes, generator=generator), labels


def slow(bank, bank_labels, queries, query_labels):
    right = 0
    for query, truth in zip(queries, query_labels.tolist(), strict=True):
        cosines = [
            (functional.cosine_similarity(query, one, dim=0).item(), label) for one, label in zip(bank, bank_labels.tolist(), strict=True)
        ]
        votes = {}
        for cosine, label in sorted(cosines, reverse=True)[:NEIGHBOURS]:
            votes[label] = votes.get(label, 0) + math.exp(cosine / TEMPERATURE)
        right += max(votes, key=votes.get) == truth
    return right / len(queries)


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
def test_the_accuracy_equals_a_slow_loop(noise):
    bank, queries = blobs(90, noise=noise, seed=1), blobs(40, noise=noise, seed=2)
    assert knn_accuracy(*bank, *queries) == pytest.approx(slow(*bank, *queries))


def test_features_that_tell_classes_apart_score_one_and_noise_scores_chance():
    assert knn_accuracy(*blobs(200, noise=0.1, seed=1), *blobs(200, noise=0.1, seed=2)) == 1
    features, labels = torch.randn(2000, 8, generator=torch.Generator().manual_seed(3)), torch.arange(2000) % 4
    assert knn_accuracy(features[:1000], labels[:1000], features[1000:], labels[1000:]) == pytest.approx(0.25, abs=0.05)


def test_vector_length_does_not_change_the_accuracy():
    bank, queries = blobs(90, seed=1), blobs(40, noise=1.0, seed=2)
    scaled = bank[0] * torch.linspace(0.1, 10, 90).unsqueeze(1)
    assert knn_accuracy(scaled, bank[1], *queries) == knn_accuracy(*bank, *queries)


def test_all_of_a_bank_smaller_than_k_votes():
    bank, labels = blobs(8, noise=0.0)
    assert knn_accuracy(bank, labels, bank, labels) == 1


def test_the_mean_iou_covers_only_classes_in_the_truth():
    truth = torch.tensor([0, 0, 0, 2, 2])
    assert mean_iou(truth, truth) == 1
    assert mean_iou(torch.tensor([0, 0, 1, 2, 0]), truth) == pytest.approx((2 / 4 + 1 / 2) / 2)


def test_a_patch_has_the_class_of_most_of_its_pixels():
    maps = torch.zeros(1, 4, 6, dtype=torch.int64)
    maps[0, :2, :3] = 3  # the whole of the first patch
    maps[0, 2:, 4:] = 1  # four of the six pixels of the last
    maps[0, 3, 0] = 2  # one of six
    assert patch_labels(maps, grid=(2, 2)).tolist() == [[3, 0, 0, 1]]


def test_a_colour_means_the_same_in_every_image():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(5, 16, generator=generator)
    tokens = torch.stack([kinds[torch.tensor([0, 1, 2, 3])], kinds[torch.tensor([3, 4, 0, 2])]])
    colours = principal_colours(tokens)
    assert colours.shape == (2, 4, 3)
    assert colours.dtype == torch.uint8
    assert torch.equal(colours[0, 0], colours[1, 2])
    assert torch.equal(colours[0, 3], colours[1, 0])
    assert not torch.equal(colours[0, 0], colours[0, 1])


def test_red_is_the_direction_of_most_variance():
    tokens = torch.zeros(1, 101, 6)
    tokens[0, :, 4] = torch.linspace(-9, 9, 101)
    tokens[0, :, 1] = torch.linspace(-1, 1, 101).square()
    tokens[0, :, 2] = 0.01 * torch.linspace(-1, 1, 101).pow(3)
    red = principal_colours(tokens)[0, :, 0].int()
    assert (red.diff() >= 0).all()
    assert (red[0], red[-1]) == (0, 255)


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="tokens of width 2 have fewer than three principal components"):
        principal_colours(torch.zeros(1, 9, 2))
