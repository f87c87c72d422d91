import torch

from gestalt.projection import TokenProjection
from gestalt.tokens import Tokens


def tokens(summary: bool) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(2, 6, 4, generator=generator)
    return Tokens(
        parts.mean(dim=1) if summary else None, parts, torch.ones(2, 6, dtype=torch.bool), (2, 3)
    )


def test_every_part_is_projected_by_the_same_matrix():
    projection = TokenProjection(4, 3)
    torch.testing.assert_close(
        projection(tokens(True)).parts, tokens(True).parts @ projection.linear.weight.T
    )


def test_projection_keeps_mask_and_grid():
    before = tokens(True)._replace(mask=torch.tensor([[True] * 5 + [False]] * 2))
    after = TokenProjection(4, 3)(before)
    assert after.grid == (2, 3)
    assert torch.equal(after.mask, before.mask)


def test_tokens_of_unit_variance_keep_their_scale():
    torch.manual_seed(0)
    wide = Tokens(None, torch.randn(4, 50, 256), torch.ones(4, 50, dtype=torch.bool), None)
    assert 0.9 < TokenProjection(256, 128)(wide).parts.std().item() < 1.1
