"""Sinkhorn targets: distributions in equal shares of prototypes.  M samples, K prototypes."""

import pytest
import torch

from gestalt.distillation.targets import sinkhorn
from gestalt.losses.gather import rank_share


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_sample_gets_a_distribution_and_every_prototype_the_same_share():
    plan = sinkhorn(logits(40, 8), temperature=0.5, steps=50)
    torch.testing.assert_close(plan.sum(dim=-1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(dim=0), torch.full((8,), 40 / 8, dtype=torch.float64))


def test_sinkhorn_only_rescales_rows_and_columns():
    """The plan is diag(r) exp(logits / temperature) diag(c): its logarithm differs from the logits by a term of rank 2."""
    scores = logits(6, 5)
    rest = sinkhorn(scores, temperature=0.5, steps=20).log() - scores / 0.5
    doubly_centred = rest - rest.mean(dim=0) - rest.mean(dim=1, keepdim=True) + rest.mean()
    assert doubly_centred.abs().max() < 1e-9


def test_an_offset_shared_by_all_samples_does_not_change_the_targets():
    scores = logits(12, 6)
    torch.testing.assert_close(
        sinkhorn(scores + 5 * logits(6, seed=1), temperature=0.5, steps=200), sinkhorn(scores, temperature=0.5, steps=200)
    )


def test_leading_dimensions_are_balanced_one_by_one():
    scores = logits(3, 10, 4)
    for position, alone in enumerate(scores):
        torch.testing.assert_close(sinkhorn(scores, temperature=0.2)[position], sinkhorn(alone, temperature=0.2))


def test_large_logits_stay_finite_and_no_gradient_flows():
    plan = sinkhorn((1e4 * logits(10, 4)).float().requires_grad_(), temperature=0.04)
    assert plan.isfinite().all()
    assert not plan.requires_grad
    torch.testing.assert_close(plan.sum(dim=-1), torch.ones(10))


def test_in_one_process_a_sum_times_the_share_is_a_mean():
    assert (torch.tensor(12.0) * rank_share(torch.tensor(4.0))).item() == pytest.approx(3)
    assert (torch.tensor(0.0) * rank_share(torch.tensor(0.0))).item() == 0
