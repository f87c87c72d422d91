"""The loss of patches: equal to slow loops, places across views, targets.  V views, B batch, N
patches, K prototypes.
"""

import pytest
import torch

from gestalt.losses.distillation import (
    STUDENT_TEMPERATURE,
    balanced_by_position,
    cross_view,
    patch_loss,
    sinkhorn,
)

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
MIRRORED = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
LEFT_HALF = torch.tensor([[0.0, 0.0, 0.5, 1.0]])
PLACES = torch.cat([WHOLE.expand(3, 4), MIRRORED.expand(3, 4)]).reshape(2, 3, 4)


def outputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_patch_is_compared_with_the_same_patch_of_the_same_view():
    student, teacher = outputs(2, 3, 4, 6, seed=1), outputs(2, 3, 4, 6, seed=2)
    target, total = balanced_by_position(teacher), 0.0
    for index in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 4))).tolist():
        logit = student[tuple(index)].double() / STUDENT_TEMPERATURE
        total -= (target[tuple(index)].double() * (logit - logit.logsumexp(dim=0))).sum().item()
    same, _ = patch_loss(student, teacher, places=PLACES)
    assert same.item() == pytest.approx(total / 24, rel=1e-5)


def test_balance_by_position_leaves_no_prototype_for_a_position():
    """Outputs that tell positions apart and nothing else: balance over all patches keeps them
    apart, balance by position does not.
    """
    teacher = (0.4 * torch.eye(4)).expand(2, 8, 4, 4)
    assert sinkhorn(teacher.reshape(-1, 4)).amax(dim=-1).min() > 0.99
    balanced = balanced_by_position(teacher)
    torch.testing.assert_close(balanced, torch.full_like(balanced, 1 / 4))


def test_no_gradient_flows_into_the_teacher_and_all_of_the_student_learns():
    student, teacher = (
        outputs(2, 3, 4, 6, seed=1).requires_grad_(),
        outputs(2, 3, 4, 6, seed=2).requires_grad_(),
    )
    sum(patch_loss(student, teacher, places=PLACES)).backward()
    assert teacher.grad is None
    assert (student.grad.abs().sum(dim=-1) > 0).all()


def test_cross_view_loss_of_mirrored_views_pairs_each_patch_with_its_mirror():
    logs, target = (
        outputs(2, 1, 16, 6, seed=1).log_softmax(dim=-1),
        outputs(2, 1, 16, 6, seed=2).softmax(dim=-1),
    )
    places = torch.stack([WHOLE, MIRRORED])
    total = 0.0
    for one, row, column in torch.cartesian_prod(
        torch.arange(2), torch.arange(4), torch.arange(4)
    ).tolist():
        there = target[1 - one, 0, 4 * row + 3 - column]
        total -= (there * logs[one, 0, 4 * row + column]).sum().item()
    assert cross_view(logs, target, places).item() == pytest.approx(total / 32, rel=1e-5)


def test_cross_view_loss_interpolates_targets_between_a_view_and_its_left_half():
    """With two patches a side, those of the half lie at the quarters of the whole's left column,
    between centre and border.
    """
    logs, target = (
        outputs(2, 1, 4, 6, seed=1).log_softmax(dim=-1),
        outputs(2, 1, 4, 6, seed=2).softmax(dim=-1),
    )
    total = 0.0
    for row in (0, 1):
        # the whole's left patch has its centre between both of the half
        half = target[1, 0, 2 * row : 2 * row + 2].mean(dim=0)
        total -= (half * logs[0, 0, 2 * row]).sum().item()
        right = 0.75 * target[0, 0, 2 * row] + 0.25 * target[0, 0, 2 * row + 1]
        for patch, there in ((2 * row, target[0, 0, 2 * row]), (2 * row + 1, right)):
            total -= (there * logs[1, 0, patch]).sum().item()
    assert cross_view(logs, target, torch.stack([WHOLE, LEFT_HALF])).item() == pytest.approx(
        total / 6, rel=1e-5
    )


def test_views_that_share_no_place_give_zero():
    right = torch.tensor([[0.6, 0.0, 1.0, 1.0]])
    logs, target = (
        outputs(2, 1, 4, 6, seed=1).log_softmax(dim=-1),
        outputs(2, 1, 4, 6, seed=2).softmax(dim=-1),
    )
    assert cross_view(logs, target, torch.stack([LEFT_HALF, right])).item() == 0
