"""Sinkhorn targets: distributions in equal shares of prototypes.  M samples, K prototypes."""

import torch

from gestalt.losses.distillation import sinkhorn


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
