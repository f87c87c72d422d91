"""K-means, spectral clustering and attention heads: their laws and invariances; the slow references
are in ``test_parity_others.py``.
"""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.engine import attention_masks, bottom_up, image_similarity
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from tests.gestalt.painted import PaintedModel, random_pixels
from tests.gestalt.tiny_model import with_image_tower

PARTITIONS = ("kmeans_square", "spectral_square")


def drawn(count: int, width: int, *, seed: int = 0) -> Tensor:
    """Tokens (N, D) float64 in five loose bunches, far from zero."""
    draw = np.random.default_rng([seed, count, width])
    return torch.from_numpy(
        3
        + 2 * draw.normal(size=(5, width))[draw.integers(5, size=count)]
        + draw.normal(size=(count, width))
    )


@pytest.mark.parametrize("name", PARTITIONS)
def test_the_seed_alone_decides_the_starts(name):
    tokens = drawn(80, 8)
    one, same, other = (
        image_similarity(
            tokens, protocol=build_protocol(name, GROUPING_PROTOCOLS, seed=seed, restarts=1)
        )
        for seed in (0, 0, 5)
    )
    np.random.rand(3)  # a global stream that nothing here may read
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_token_is_nearest_to_the_centre_that_it_lies_on():
    tokens = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]).double()
    protocol = build_protocol("kmeans_square", GROUPING_PROTOCOLS, groups=3)
    first, second, third, fourth = image_similarity(tokens, protocol=protocol).argmax(dim=0)
    assert len({int(first), int(second), int(third)}) == 3
    assert second == fourth


def test_bilinear_attention_is_thresholded_at_the_pixels():
    maps = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    shares = {}
    for rule in ("nearest", "bilinear"):
        protocol = build_protocol("attention_square", GROUPING_PROTOCOLS, mass=0.9, upsample=rule)
        shares[rule] = attention_masks(maps, protocol=protocol, size=(1, 16))[0, 0].tolist()
    assert shares["nearest"] == [False] * 8 + [True] * 8
    assert sum(shares["bilinear"]) < 8 + 2
    assert not any(shares["bilinear"][:6])


@torch.no_grad()
def test_class_attention_equals_the_softmax_of_the_last_block():
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "width": 32, "depth": 3, "heads": 2, "eval_size": 32}
    keys = Image("vit_tiny_patch16_224", init="random", **sizes)
    model = with_image_tower(build_image_tower(keys)).eval()
    images = random_pixels(2, 3, 32, 48)
    trunk = model.image_tower.trunk
    seen: list[Tensor] = []
    handle = trunk.blocks[-1].norm1.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    before = model.tokens(images).parts
    handle.remove()
    query, key, _ = functional.linear(
        seen[0], trunk.blocks[-1].attn.qkv.weight, trunk.blocks[-1].attn.qkv.bias
    ).chunk(3, dim=-1)
    found = model.class_attention(images)
    assert found.shape == (2, 2, 4, 6)
    for head in range(2):
        part = slice(head * 16, head * 16 + 16)
        scores = torch.einsum("bd,btd->bt", query[:, 0, part], key[:, :, part]) / 16**0.5
        by_hand = (scores.exp() / scores.exp().sum(dim=1, keepdim=True))[:, 1:]
        torch.testing.assert_close(found[:, head].flatten(1), by_hand)
    assert torch.equal(model.tokens(images).parts, before)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224"])
def test_class_attention_of_towers_with_registers_or_rotary_embeddings_has_the_patch_grid(backbone):
    image_tower = build_image_tower(Image(backbone, init="random", depth=2, eval_size=28)).eval()
    images = torch.zeros(1, 3, 28, 42, dtype=torch.uint8)
    found = with_image_tower(image_tower).class_attention(images)
    assert found.shape[-2:] == (2, 3)
    assert bool((found.flatten(2).sum(dim=2) < 1).all())


def test_nan_tokens_and_attention_are_refused():
    model = PaintedModel()
    model.scale.data.fill_(float("nan"))
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    for name in (*PARTITIONS, "attention_square"):
        with pytest.raises(ValueError, match="contain NaN or infinity"):
            bottom_up(
                model, [image], protocol=build_protocol(name, GROUPING_PROTOCOLS, input_size=16)
            )
