"""Self-distillation: masks, the head, targets in equal shares of prototypes, and the loss of
patches, also on two ranks, as threads, against one process.  V views, B batch, N patches, M
samples, K prototypes.
"""

import pytest
import torch
from torch import Tensor

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.losses.distillation import (
    STUDENT_TEMPERATURE,
    MaskToken,
    ProjectionHead,
    balanced_by_position,
    cross_view,
    masked_patches,
    patch_loss,
    sinkhorn,
)
from gestalt.subsampling import GOLDEN, keep_indices
from tests.gestalt.painted import random_pixels
from tests.gestalt.ranks import mean_over_threads

IDS, EPOCHS = torch.arange(200), torch.zeros(200, dtype=torch.int64)


def draw(ids=IDS, epochs=EPOCHS, **changes):
    return masked_patches(
        ids, epochs, **{"seed": 0, "view": 0, "total": 16, "share": 0.5, **changes}
    )


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.03, 0), (0.25, 4), (0.5, 8), (0.97, 16)])
def test_the_share_is_rounded(share, count):
    assert (draw(share=share).sum(dim=1) == count).all()


@pytest.mark.parametrize("view", [0, 1])
def test_the_masks_of_each_view_are_draws_of_tokens_by_seed_epoch_and_sample(view):
    tokens = keep_indices(IDS, IDS % 3, seed=5 + (view + 1) * GOLDEN, total=16, kept=8)
    mask = draw(epochs=IDS % 3, seed=5, view=view)
    assert mask.gather(1, tokens).all()
    assert (mask.sum(dim=1) == 8).all()


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "width": 16, "depth": 1, "heads": 2, "eval_size": 32}
    image = Image("vit_tiny_patch16_224", init="random", **sizes)
    return build_image_tower(image).eval()


def test_a_masked_patch_does_not_depend_on_its_pixels(tower):
    images = random_pixels(2, 3, 32, 32)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[0, 5] = True  # row 1, column 1
    changed = images.clone()
    changed[0, :, 8:16, 8:16] = 255 - changed[0, :, 8:16, 8:16]
    token = MaskToken(16)
    with torch.no_grad(), token.replacing(tower.trunk, mask):
        hidden, other = tower(images).parts, tower(changed).parts
    assert torch.equal(hidden, other)
    with torch.no_grad():
        seen, plain = tower(changed).parts, tower(images).parts
    assert not torch.allclose(seen, plain)
    torch.testing.assert_close(hidden[1], plain[1])


def test_the_mask_token_gets_a_gradient_and_the_hook_is_removed(tower):
    images, token = torch.zeros(1, 3, 32, 32, dtype=torch.uint8), MaskToken(16)
    with token.replacing(tower.trunk, torch.ones(1, 16, dtype=torch.bool)):
        tower(images).parts.square().sum().backward()
    assert token.token.grad.abs().sum() > 0
    assert not tower.trunk.patch_embed._forward_hooks


def test_a_head_draws_its_prototypes_and_nothing_else_after_those_drawn_before():
    heads = []
    for prototypes, drawn_before in ((12, 0), (4, 8)):
        torch.manual_seed(0)
        heads.append(ProjectionHead(8, prototypes=prototypes, drawn_before=drawn_before))
    whole, last = heads
    assert torch.equal(last.prototypes.weight, whole.prototypes.weight[8:])
    assert all(map(torch.equal, last.layers.parameters(), whole.layers.parameters()))


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


RANKS, LOCAL, K = 2, 3, 6


def found_on(rows: slice) -> dict[str, Tensor]:
    """Losses of some samples, and the gradient of each sample's patches; views overlap by other
    shares on each rank.
    """
    student, teacher = (outputs(2, RANKS * LOCAL, 4, K, seed=seed).double() / 9 for seed in (3, 4))
    corners = torch.rand(2, RANKS * LOCAL, 2, generator=torch.Generator().manual_seed(5)) / 2
    places = torch.cat([corners, corners + 0.5], dim=-1)
    student.requires_grad_()
    same, across = patch_loss(student[:, rows], teacher[:, rows], places=places[:, rows])
    (same + 2 * across).backward()
    return {"same": same.detach(), "across": across.detach(), "gradient": student.grad}


def targets_on(rank: int | None) -> Tensor:
    """Sinkhorn's targets, zero but for this rank's samples; the first rank holds one of them, the
    second all others.
    """
    logits = torch.randn(7, K, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    rows = slice(None) if rank is None else (slice(0, 1), slice(1, None))[rank]
    targets = torch.zeros_like(logits)
    targets[rows] = sinkhorn(logits[rows], temperature=0.3)
    return targets


def test_the_mean_over_two_threads_equals_one_process():
    found = mean_over_threads(
        lambda rank: found_on(slice(rank * LOCAL, (rank + 1) * LOCAL)), ranks=RANKS
    )
    torch.testing.assert_close(found, found_on(slice(None)), rtol=1e-5, atol=1e-6)


def test_targets_of_unequal_numbers_of_samples_equal_those_of_one_process():
    found = mean_over_threads(lambda rank: {"targets": targets_on(rank)}, ranks=RANKS)
    torch.testing.assert_close(RANKS * found["targets"], targets_on(None))
