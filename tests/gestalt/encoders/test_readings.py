"""Laws of every dense reading of the last block; the built-in ones equal their equations, written a
second time here from the papers' definitions.
"""

import math

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from gestalt.encoders.keys import Image
from gestalt.encoders.last_block import timm_block
from gestalt.encoders.readings import Reading, proxy_attention, read_last_block
from gestalt.encoders.towers import build_image_tower
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.tables import READINGS
from tests.gestalt.painted import random_pixels

GRID = (3, 5)


def tower(name="vit_tiny_patch16_224", patch=16, **sizes):
    torch.manual_seed(0)
    made = build_image_tower(Image(name, init="random", eval_size=4 * patch, **sizes)).eval()
    made.trunk.blocks = made.trunk.blocks[:2]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return made, random_pixels(2, 3, GRID[0] * patch, GRID[1] * patch)


TOWERS = {
    "timm ViT": ("vit_tiny_patch16_224", 16),
    "layer scale and registers": ("vit_small_patch14_reg4_dinov2", 14),
    "rotary and split projections": ("vit_small_patch16_dinov3", 16),
    "rotary and SwiGLU": ("eva02_tiny_patch14_224", 14),
    "no class token": ("vit_base_patch16_siglip_224", 16),
}


@pytest.mark.parametrize("name", TOWERS)
@torch.no_grad()
def test_the_parts_of_the_last_block_put_together_are_the_block(name):
    made, images = tower(*TOWERS[name])
    with read_last_block(timm_block(made.trunk), READINGS["plain"], grid=GRID):
        read = made(images)
    assert_close(read.parts, made(images).parts, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", [{"gate": "any"}, {"num_kv_groups": 2}])
def test_a_gated_block_or_one_of_shared_keys_has_no_parts(part):
    made, _ = tower()
    vars(made.trunk.blocks[-1].attn).update(part)
    assert timm_block(made.trunk) is None


def into(block, made, images):
    """The tokens that enter a block."""
    inputs = []
    handle = block.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    made(images)
    handle.remove()
    return inputs[0]


def by_hand(made, images, name):
    """The tokens after the last block, computed token by token."""
    block = made.trunk.blocks[-1]
    tokens, heads = into(block, made, images), block.attn.num_heads
    query, key, value = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)
    out = torch.zeros_like(tokens)
    width = tokens.shape[-1] // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        q, k, v = query[..., part], key[..., part], value[..., part]
        qq, kk = (torch.einsum("bnd,bmd->bnm", side, side) / math.sqrt(width) for side in (q, k))
        if name in ("maskclip", "values"):
            weights = torch.eye(tokens.shape[1]).expand(len(tokens), -1, -1)
        elif name == "sclip":
            weights = torch.softmax(qq, -1) + torch.softmax(kk, -1)
        elif name == "clearclip":
            weights = torch.softmax(qq, -1)
        else:
            assert name == "naclip", f"{name}: write its equation here"
            near = torch.zeros_like(kk)
            for i in range(GRID[0] * GRID[1]):
                for j in range(GRID[0] * GRID[1]):
                    squared = (i // GRID[1] - j // GRID[1]) ** 2 + (i % GRID[1] - j % GRID[1]) ** 2
                    near[:, 1 + i, 1 + j] = math.exp(-squared / 50)
            weights = torch.softmax(kk + near, -1)
        out[..., part] = weights @ v
    out = block.attn.proj(out)
    if name in ("maskclip", "sclip"):
        out = tokens + out
        out = out + block.mlp(block.norm2(out))
    return made.trunk.norm(out)[:, 1:]


@pytest.mark.laws(READINGS)
@pytest.mark.parametrize("of_tower", ["timm ViT", "no class token"])
@torch.no_grad()
def test_each_image_is_read_by_itself_into_a_token_for_each_location(of_tower, name):
    made, images = tower(*TOWERS[of_tower])
    features = torch.randn(2, 7, 6, 10)

    def read(count):
        block, shown = timm_block(made.trunk), features[:count]
        with read_last_block(block, READINGS[name], grid=GRID, features=shown):
            return made(images[:count]).parts

    both = read(2)
    assert both.shape == (2, 60 if READINGS.row(name).needs_proxy else 15, made.width)
    assert_close(both[:1], read(1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted({*READINGS.built_in} - {"plain", "proxyclip", "affinity"}))
@torch.no_grad()
def test_a_reading_equals_its_equation(name):
    made, images = tower()
    with read_last_block(timm_block(made.trunk), READINGS[name], grid=GRID):
        read = made(images)
    assert_close(read.parts, by_hand(made, images, name), atol=1e-5, rtol=1e-5)
    assert not made.trunk.blocks[-1]._forward_hooks


@torch.no_grad()
def test_a_reading_by_compute_gets_the_layers_and_windows_of_one_image():
    made, images = tower()
    seen = []
    reading = Reading(None, whole=False, compute=lambda given: seen.append(given) or given.tokens)
    block = timm_block(made.trunk)
    for starts in ((), [(0, 0), (0, 9)]):
        with read_last_block(block, reading, grid=GRID, tower=made, starts=starts):
            read = made(images)
    entered = into(block.module, made, images)
    assert torch.equal(read.parts, made.trunk.norm(entered)[:, 1:])
    for windows, expected in zip(seen, (entered[:1], entered[1:], entered), strict=True):
        (layer,) = windows.layers
        assert torch.equal(windows.tokens, expected)
        assert torch.equal(layer, expected)
    assert [windows.starts for windows in seen] == [[(0, 0)], [(0, 0)], starts]


@torch.no_grad()
def test_tips_448_reads_the_last_block_exactly_as_the_notebook_of_its_authors():
    """google-deepmind/tips at 4db271d, pytorch/TIPS_zeroshot_segmentation.ipynb, the function
    encode_image_value_attention; prefix: class token and one register.
    """
    made, images = tower("vit_base_patch14_reg1_tipsv2", 14, width=24, depth=2, heads=3)
    reading = READINGS[top_down_protocol("tips-448").reading]
    with read_last_block(timm_block(made.trunk), reading, grid=GRID):
        read = made(images)
    block = made.trunk.blocks[-1]
    tokens = into(block, made, images)
    values = block.attn.qkv(block.norm1(tokens)).chunk(3, dim=-1)[2].contiguous()
    tokens = tokens + block.ls1(block.attn.proj(values))
    tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
    assert torch.equal(read.parts, made.trunk.norm(tokens)[:, 2:])


@torch.no_grad()
def test_proxyclip_attention_equals_the_formula():
    features = torch.randn(2, 7, 6, 10)
    unit = functional.normalize(features.flatten(2), dim=1)
    for image in range(2):
        similarity = unit[image].T @ unit[image]
        sharpened = 3.0 * (similarity - 1.2 * similarity.mean())
        expected = torch.softmax(
            torch.where(sharpened < 0, torch.tensor(-torch.inf), sharpened), -1
        )
        assert_close(proxy_attention(features)[image, 0], expected)


def test_an_image_without_contrast_is_read_by_proxyclip_without_nan():
    assert torch.isfinite(proxy_attention(torch.ones(1, 4, 2, 3))).all()
