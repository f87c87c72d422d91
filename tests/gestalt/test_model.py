"""The dual encoder: what is pooled, in which order, in which space.  B batch, N parts, D tower
width, E shared width, h w patch grid.
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.aggregation import build_aggregation
from gestalt.config.loading import load
from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.model import DualEncoder, Side
from gestalt.models.start import build_model
from gestalt.projection import TokenProjection
from gestalt.tokens import Tokens
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_model import WORDS, tiny

BATCH, GRID, WIDTH, SHARED = 3, (2, 5), 6, 4


class Fixed(nn.Module):
    """A tower that gives the same tokens for every image; its summary is larger in every channel
    than any part.
    """

    def __init__(self, grid: tuple[int, int] | None, *, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        rows = GRID[0] * GRID[1]
        parts = torch.randn(BATCH, rows, WIDTH, generator=generator)
        summary = 10 + torch.randn(BATCH, WIDTH, generator=generator)
        self.tokens = Tokens(
            summary=summary, parts=parts, mask=torch.ones(BATCH, rows, dtype=torch.bool), grid=grid
        )

    def forward(self, inputs: object, keep: Tensor | None = None) -> Tokens:
        return self.tokens


def encoder(
    aggregation: str, *, order: str = "before", grid: tuple[int, int] = GRID
) -> DualEncoder:
    torch.manual_seed(1)
    image, text = TokenProjection(WIDTH, SHARED), TokenProjection(WIDTH, SHARED)
    width = WIDTH if order == "after" else SHARED
    return DualEncoder(
        Side(
            Fixed(grid),
            image,
            aggregation=build_aggregation(aggregation, width),
            project_first=order == "before",
        ),
        Side(
            Fixed(None, seed=1),
            text,
            aggregation=build_aggregation("avg", SHARED),
            project_first=True,
        ),
    )


IMAGES = torch.zeros(BATCH, 3, 16, 40, dtype=torch.uint8)
TEXTS = ["a dog", "a cat", "grass"]


def projected(model: DualEncoder) -> Tokens:
    return model.image.project(model.image.tower(IMAGES))


def test_max_is_the_largest_projected_patch_token_in_each_channel_and_then_a_unit_vector():
    model = encoder("max")
    strongest = torch.stack(
        [torch.stack([max(column) for column in parts.T]) for parts in projected(model).parts]
    )
    torch.testing.assert_close(
        model.embed_image(IMAGES), strongest / strongest.norm(dim=1, keepdim=True)
    )


def test_max_over_a_real_vit_excludes_the_class_token():
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "width": 16, "depth": 1, "heads": 2, "eval_size": 32}
    image = Image("vit_tiny_patch16_224", init="random", **sizes)
    tower = build_image_tower(image).eval()
    images = random_pixels(2, 3, 16, 40)
    # (B, 1 + N, D)
    everything = tower.trunk.forward_features((images.float() / 255 - tower.mean) / tower.std)
    side = Side(tower, None, aggregation=build_aggregation("max", 16), project_first=True)
    torch.testing.assert_close(
        side.pool(tower(images)), functional.normalize(everything[:, 1:].max(dim=1).values, dim=1)
    )


@pytest.mark.parametrize("grid", [GRID, GRID[::-1]])
def test_patch_tokens_equal_the_tower_or_projected_parts(grid):
    model = encoder("max", grid=grid)
    found = model.patch_tokens(IMAGES, projected=False), model.patch_tokens(IMAGES, projected=True)
    for tokens, parts in zip(
        found, (model.image.tower(IMAGES).parts, projected(model).parts), strict=True
    ):
        assert tokens.shape == (BATCH, parts.shape[2], *grid)
        for row in range(grid[0]):
            for column in range(grid[1]):
                assert torch.equal(tokens[:, :, row, column], parts[:, row * grid[1] + column])
    torch.testing.assert_close(functional.normalize(found[1], dim=1), model.embed_patches(IMAGES))


@pytest.mark.parametrize("name", ["avg", "cls"])
def test_projecting_after_a_linear_aggregation_is_projecting_before_it(name):
    torch.testing.assert_close(
        encoder(name, order="after").embed_image(IMAGES),
        encoder(name, order="before").embed_image(IMAGES),
    )


def test_the_sigmoid_loss_starts_from_siglips_scale_and_bias():
    config = load("clippy_dino_max", scale="tiny", overrides=[*WORDS, "loss.name=sigmoid"])
    siglip, (clip, _) = build_model(config).state_dict(), tiny()
    assert siglip["logit_scale"].exp().item() == pytest.approx(10)
    assert siglip.keys() - clip.state_dict().keys() == {"logit_bias"}
    assert siglip["logit_bias"].item() == -10
    assert clip.logit_scale.exp().item() == pytest.approx(1 / 0.07)
