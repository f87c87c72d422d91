"""Masks: which patches are hidden, and that a tower does not see them.  B batch, N patches."""

import pytest
import torch

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.losses.distillation import MaskToken, ProjectionHead, masked_patches
from gestalt.subsampling import GOLDEN, keep_indices
from tests.gestalt.painted import random_pixels

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
