"""The probe: when it runs, and k-NN against slow or known answers.  D width."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from gestalt.pretraining import probe
from gestalt.pretraining.probe import (
    NEIGHBOURS,
    TEMPERATURE,
    Probe,
    knn_predict,
    mean_iou,
    patch_labels,
)
from gestalt.training.clock import Clock


def trainer(step, *, first=True):
    """A stand-in with a fixed step."""
    return SimpleNamespace(global_step=step, max_steps=7, is_global_zero=first, logger=None)


def test_the_probe_runs_at_the_start_at_intervals_and_at_the_end_and_not_again_at_a_resume(
    monkeypatch,
):
    seen, one = [], Probe(Clock(0.0), every_steps=3, make_voters=None)
    monkeypatch.setattr(
        Probe, "_score", lambda self, trainer, module: seen.append(trainer.global_step)
    )
    one.on_train_start(trainer(0), None)
    for step in range(1, 8):
        one.on_train_batch_end(trainer(step), None, None, None, step - 1)
    one.on_train_start(trainer(4), None)
    assert seen == [0, 3, 6, 7]


def test_the_first_rank_scores_in_evaluation_mode_and_the_state_holds_the_curves(monkeypatch):
    tower = nn.Identity().train()
    module = SimpleNamespace(trained_tower=tower, device=torch.device("cpu"), print=print)
    monkeypatch.setattr(probe, "Pretrainer", SimpleNamespace)
    monkeypatch.setattr(
        probe, "image_scores", lambda tower, voters, device: {"modes": float(tower.training)}
    )
    monkeypatch.setattr(probe, "patch_score", lambda tower, voters, device: voters)
    one, other = (Probe(Clock(0.0), every_steps=3, make_voters=lambda: 0.5) for _ in range(2))
    for step, first in ((3, False), (6, True)):
        one._score(trainer(step, first=first), module)
    assert one.curves == {"modes": [(6, 0.0)], "patches/miou": [(6, 0.5)]}
    assert tower.training
    other.load_state_dict(one.state_dict())
    assert other.curves == one.curves


def accuracy(bank, labels, queries, truth):
    return (knn_predict(bank, labels, queries) == truth).float().mean().item()


def blobs(count, *, classes=4, noise=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return torch.eye(classes)[labels] + noise * torch.randn(
        count, classes, generator=generator
    ), labels


def slow(bank, bank_labels, queries, query_labels):
    right = 0
    for query, truth in zip(queries, query_labels.tolist(), strict=True):
        cosines = [
            (functional.cosine_similarity(query, one, dim=0).item(), label)
            for one, label in zip(bank, bank_labels.tolist(), strict=True)
        ]
        votes = {}
        for cosine, label in sorted(cosines, reverse=True)[:NEIGHBOURS]:
            votes[label] = votes.get(label, 0) + math.exp(cosine / TEMPERATURE)
        right += max(votes, key=votes.get) == truth
    return right / len(queries)


@pytest.mark.parametrize(("noise", "size"), [(0.1, 90), (3.0, 90), (1.0, NEIGHBOURS - 5)])
def test_the_accuracy_equals_a_slow_loop_whatever_the_length_of_vectors(noise, size):
    bank, queries = blobs(size, noise=noise, seed=1), blobs(40, noise=noise, seed=2)
    assert accuracy(*bank, *queries) == pytest.approx(slow(*bank, *queries))
    scaled = bank[0] * torch.linspace(0.1, 10, size).unsqueeze(1)
    assert accuracy(scaled, bank[1], *queries) == accuracy(*bank, *queries)


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
