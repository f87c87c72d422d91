import copy
from typing import Any

import pytest
import timm
import torch

from gestalt.encoders.boundary import block_count, check_boundary
from gestalt.encoders.image import ImageTower
from gestalt.support.typed import ConfigError
from gestalt.tokens import Features
from tests.gestalt.encoders.test_image import CNNS, SMALL, VITS, cnn, over_vits, pixels, vit
from tests.gestalt.tiny_config import tiny_config

STAGES = {"tf_efficientnet_lite0": 7, "resnet18": 4, "mobilenetv3_small_050": 6, "convnext_atto": 4}


def frozen(name: str, **changes: Any) -> ImageTower:
    return cnn(name, **changes) if name in CNNS else vit(name, **changes)


def side(name: str) -> int:
    return 64 if name in CNNS else VITS[name]["eval_size"]


@pytest.mark.parametrize("name", [*VITS, *CNNS])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_the_trainable_part_on_features_equals_the_whole_tower_exactly(name, mode):
    for blocks in {1, STAGES.get(name, SMALL["depth"])}:
        tower = frozen(name, frozen_blocks=blocks).train(mode)
        assert block_count(tower.trunk) == STAGES.get(name, SMALL["depth"])
        images = pixels(side(name), side(name))
        with torch.no_grad():
            whole = copy.deepcopy(tower)(images)  # a batch norm in training moves its statistics
            parts = tower(Features(tower.features(images), side(name)))
        assert whole.grid == parts.grid
        for one, other in zip(whole, parts, strict=True):  # the registers among them
            assert not isinstance(one, torch.Tensor) or torch.equal(one, other)  # type: ignore[arg-type]
            assert (one is None) == (other is None)


@over_vits
def test_features_of_kept_patches_give_the_same_tokens_as_the_whole_tower(backbone):
    tower, length = vit(backbone, frozen_blocks=1).eval(), side(backbone)
    keep = torch.tensor([[0, 2], [3, 1]])
    images = pixels(length, length)
    with torch.no_grad():
        whole, parts = (
            tower(images, keep),
            tower(Features(tower.features(images, keep), length), keep),
        )
    assert torch.equal(whole.parts, parts.parts)
    assert parts.grid is None
    assert tower.trunk.patch_drop.keep is None


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "resnet18", "convnext_atto"]
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_on_features_equal_those_on_images_and_frozen_weights_have_none(
    name, checkpointing
):
    gradients = []
    for cached in (False, True):
        tower, images = (
            frozen(name, frozen_blocks=1, gradient_checkpointing=checkpointing),
            pixels(side(name), side(name)),
        )
        tower.train(name != "resnet18")  # whose batch norms checkpointing shows the batch twice
        given = Features(tower.features(images), side(name)) if cached else images
        tower(given).parts.square().mean().backward()
        gradients.append(
            {
                key: parameter.grad
                for key, parameter in tower.named_parameters()
                if parameter.requires_grad
            }
        )
        assert not [
            key
            for key, parameter in tower.named_parameters()
            if key not in gradients[-1] and parameter.grad is not None
        ]
        assert any(value is not None and value.any() for value in gradients[-1].values())
    for key, value in gradients[0].items():
        other = gradients[1][key]
        assert torch.equal(value, other) if other is not None else value is None, key
    trained = {key.removeprefix("trunk.") for key in gradients[0]}
    assert trained
    assert not [
        key
        for key in trained
        if key.startswith(
            ("stem", "conv1", "patch_embed", "cls", "pos", "blocks.0", "layer1", "stages.0")
        )
    ]


def test_the_frozen_part_of_a_random_cnn_keeps_the_statistics_of_its_batch_norms():
    tower = cnn("resnet18", frozen_blocks=2)
    before = copy.deepcopy(tower.trunk.state_dict())
    tower.train()(pixels(64, 64))
    after = tower.trunk.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"layer3", "layer4"}


@torch.no_grad()
def test_frozen_weights_lists_the_weights_that_features_depend_on():
    tower = vit(frozen_blocks=1)
    names = set(tower.frozen_weights())
    assert {"cls_token", "pos_embed", "blocks.0.norm1.weight", "mean", "std"} <= names
    images = pixels(32, 32)
    features, needed = tower.eval().features(images), set()
    for name, weight in {**tower.trunk.state_dict(), "mean": tower.mean, "std": tower.std}.items():
        before = weight.clone()
        weight += torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)).add(0.5)
        needed |= set() if torch.equal(tower.features(images), features) else {name}
        weight.copy_(before)
    assert names == needed
    assert set(vit(frozen=True).frozen_weights()) == {*vit().trunk.state_dict(), "mean", "std"}
    assert {
        name for name in cnn("resnet18", frozen_blocks=1).frozen_weights() if "running" in name
    } >= {"bn1.running_mean"}


def test_an_impossible_number_of_frozen_blocks_is_refused():
    with pytest.raises(
        ValueError, match=r"image\.frozen_blocks=5: 'resnet18' has 4 blocks; choose 0 to 4"
    ):
        cnn("resnet18", frozen_blocks=5)
    with pytest.raises(ValueError, match=r"image\.frozen_blocks=1: 'vgg11' has no numbered blocks"):
        cnn("vgg11", frozen_blocks=1)
    with pytest.raises(
        ConfigError, match=r"image\.frozen_blocks=1: image\.frozen=true freezes the whole tower"
    ):
        tiny_config("image.frozen_blocks=1", "image.frozen=true", name="clippy_random_max")


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", pytest.param("tf_efficientnet_lite0", marks=pytest.mark.slow)]
)
def test_a_compiled_tower_reads_features(name):
    tower = frozen(name, frozen_blocks=1).eval()
    given = Features(tower.features(pixels(side(name), side(name))), side(name))
    expected = tower(given).parts
    tower.compile(backend="eager", dynamic=False)
    torch.testing.assert_close(tower(given).parts, expected)


def test_a_boundary_is_found_before_weights_are_drawn():
    trunk = timm.create_model("test_resnet", num_classes=0)
    for parameter in trunk.parameters():
        parameter.data.fill_(float("nan"))
    check_boundary(trunk, 1, backbone="test_resnet", stride=(32, 32))
