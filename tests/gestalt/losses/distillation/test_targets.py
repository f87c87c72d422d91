"""Sinkhorn targets: distributions in equal shares of prototypes.  M samples, K prototypes."""

import math

import pytest
import torch

from gestalt.losses.distillation import entropies, sinkhorn


def logits(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_sample_gets_a_distribution_and_every_prototype_the_same_share():
    plan = sinkhorn(logits(40, 8), temperature=0.5, steps=50)
    torch.testing.assert_close(plan.sum(dim=-1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(dim=0), torch.full((8,), 40 / 8, dtype=torch.float64))


def test_sinkhorn_only_rescales_rows_and_columns():
    """The plan is diag(r) exp(logits / temperature) diag(c): its logarithm differs from the logits
    by a term of rank 2.
    """
    scores = logits(6, 5)
    rest = sinkhorn(scores, temperature=0.5, steps=20).log() - scores / 0.5
    doubly_centred = rest - rest.mean(dim=0) - rest.mean(dim=1, keepdim=True) + rest.mean()
    assert doubly_centred.abs().max() < 1e-9


def test_leading_dimensions_are_balanced_one_by_one():
    scores = logits(3, 10, 4)
    for position, alone in enumerate(scores):
        torch.testing.assert_close(sinkhorn(scores)[position], sinkhorn(alone))


def test_large_logits_stay_finite_and_no_gradient_flows():
    plan = sinkhorn((1e4 * logits(10, 4)).float().requires_grad_())
    assert plan.isfinite().all()
    assert not plan.requires_grad
    torch.testing.assert_close(plan.sum(dim=-1), torch.ones(10))


def test_the_entropies_tell_both_kinds_of_collapse_apart():
    nothing = torch.full((2, 3, 8), 1 / 8)  # every prototype alike
    one = torch.eye(8)[torch.zeros(2, 3, dtype=torch.int64)]  # the same prototype for every image
    spread = torch.eye(8)[torch.arange(8).view(2, 4)]  # its own prototype for every image
    assert [value.item() for value in entropies(nothing)] == pytest.approx(
        [math.log(8), math.log(8)]
    )
    assert [value.item() for value in entropies(one)] == pytest.approx([0, 0])
    assert [value.item() for value in entropies(spread)] == pytest.approx([0, math.log(8)])
