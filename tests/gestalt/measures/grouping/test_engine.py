"""Bottom-up grouping: the paper's method against a slow reference; the laws and invariances of
k-means, spectral clustering and attention heads, whose slow references are in
``test_parity_others.py``.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.callback import JaccardSimilarity
from gestalt.measures.grouping.engine import (
    attention_masks,
    bottom_up,
    choose_largest,
    image_similarity,
)
from gestalt.measures.grouping.protocol import PROTOCOLS, BottomUpProtocol
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from tests.gestalt.measures.segmentation.test_parity_others import components
from tests.gestalt.painted import PaintedModel, blocky_label, painted, random_pixels
from tests.gestalt.tiny_model import with_image_tower

PROTOCOL = BottomUpProtocol(name="test", input_size=64)
PATCHES = dataclasses.replace(PROTOCOL, upsample="nearest")
IMAGE = torch.zeros(3, 64, 64, dtype=torch.uint8)


def features(count: int, width: int) -> Tensor:
    """Tokens (N, D) float64 with a mean far from zero and a few strong directions, as towers
    have.
    """
    draw = np.random.default_rng([0, count, width])
    mixed = (
        draw.normal(size=(count, width))
        @ np.diag(1 / np.arange(1, width + 1))
        @ draw.normal(size=(width, width))
    )
    return torch.from_numpy(mixed + 2 * draw.normal(size=width))


class Fixed:
    """A model that gives the same tokens (N, D) for each image, on a grid."""

    def __init__(self, tokens: Tensor, *, grid: tuple[int, int]) -> None:
        self.tokens = tokens
        self.grid = grid
        self.asked: list[bool] = []

    def class_attention(self, images: Tensor) -> Tensor:
        """Not asked for."""
        raise AssertionError

    def patch_tokens(self, images: Tensor, *, projected: bool) -> Tensor:
        """(B, D, h, w); no gradient may reach it."""
        assert not torch.is_grad_enabled()
        self.asked.append(projected)
        return self.tokens.T.reshape(1, -1, *self.grid).expand(len(images), -1, -1, -1)


@pytest.mark.parametrize("shape", [(20, 48), (70, 24)], ids=["few_tokens", "narrow_tokens"])
def test_groups_equal_a_slow_reference(shape):
    tokens = features(*shape)
    rows = tokens.numpy() / np.linalg.norm(tokens, axis=1, keepdims=True)
    similarity = image_similarity(tokens, protocol=PROTOCOL)
    np.testing.assert_allclose(similarity, components(rows), atol=1e-9)


def test_two_distinct_features_give_two_groups_and_one_gives_one():
    tokens = torch.eye(5, dtype=torch.float64)[torch.tensor([1, 1, 1, 4, 1, 4])]
    # the rarer lies farther from the mean
    assert image_similarity(tokens, protocol=PROTOCOL).argmax(dim=0).tolist() == [1, 1, 1, 0, 1, 0]
    assert image_similarity(tokens[:3] + 1e-9, protocol=PROTOCOL).argmax(dim=0).tolist() == [
        0,
        0,
        0,
    ]


def test_groups_have_the_native_label_size_and_an_untransposed_grid():
    protocol = dataclasses.replace(PATCHES, input_size=16, resize="short_side", multiple=4)
    label = (
        torch.tensor([1, 1, 3, 2, 2, 1, 3, 1, 2, 1], dtype=torch.uint8)
        .repeat(16, 1)
        .repeat_interleave(4, 1)
    )
    found = bottom_up(
        PaintedModel(), [painted(label)] * 2, protocol=protocol, sizes=[(16, 40), (33, 50)]
    )
    assert [tuple(one.groups.shape) for one in found] == [(16, 40), (33, 50)]
    assert [one.grid for one in found] == [(4, 10)] * 2
    assert found[0].groups.dtype == torch.uint8
    metric = JaccardSimilarity()
    metric.update([found[0].groups], [label], torch.tensor([0]))
    assert metric.compute().jaccard == 1


def test_similarities_are_upsampled_before_argmax_unless_nearest_is_chosen():
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 0.4]]])
    soft, hard = (
        choose_largest(maps, protocol=dataclasses.replace(PROTOCOL, upsample=rule), size=(1, 8))
        for rule in ("bilinear", "nearest")
    )
    assert soft.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    assert hard.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_groups_do_not_depend_on_batching():
    protocol = BottomUpProtocol(name="test", input_size=16, resize="short_side", multiple=4)
    images = [
        painted(blocky_label(rows, columns, seed=rows))
        for rows, columns in ((4, 6), (6, 4), (4, 6))
    ]
    together = bottom_up(PaintedModel(), images, protocol=protocol)
    for image, found in zip(images, together, strict=True):
        assert torch.equal(
            bottom_up(PaintedModel(), [image], protocol=protocol)[0].groups, found.groups
        )


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("name", "width"),
    [("pca_square", 400), ("pca_square", 64), ("kmeans_square", 64), ("spectral_square", 64)],
)
def test_two_threads_give_bit_identical_results_and_the_thread_count_is_kept(threads, name, width):
    tokens, found = features(300, width), []
    for count in (1, 2):
        torch.set_num_threads(count)
        with threadpool_limits(limits=count):
            found.append(image_similarity(tokens, protocol=PROTOCOLS[name]))
        assert torch.get_num_threads() == count
    assert torch.equal(*found)


def test_the_protocol_chooses_tower_or_projected_tokens():
    model = Fixed(features(16, 8), grid=(4, 4))
    for name in ("tower", "projected"):
        bottom_up(model, [IMAGE], protocol=dataclasses.replace(PROTOCOL, features=name))
    assert model.asked == [False, True]


def test_the_tower_runs_in_inference_mode():
    image = painted(blocky_label(8, 8, seed=0))
    with torch.inference_mode():
        bottom_up(PaintedModel(), [image], protocol=PROTOCOL)


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
    attention = model.image_tower.trunk.blocks[-1].attn
    attention.fused_attn, seen = False, []  # the softmax goes through a dropout
    handle = attention.attn_drop.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    before = model.tokens(images).parts
    handle.remove()
    found = model.class_attention(images)
    assert found.shape == (2, 2, 4, 6)
    torch.testing.assert_close(found.flatten(2), seen[0][:, :, 0, 1:])
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
