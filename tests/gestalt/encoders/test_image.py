from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from gestalt.encoders.backbones import inspect_trunk
from gestalt.encoders.image import ImageTower
from gestalt.encoders.keys import Image
from gestalt.encoders.towers import build_image_tower
from tests.gestalt.painted import random_pixels

SMALL = {"width": 32, "depth": 2, "heads": 2}
TIMMS = dict.fromkeys(("patch_size", "width", "depth", "heads"))
VITS: dict[
    str, dict[str, int]
    # one of each kind: plain, distilled, no class token, registers, average-pooled, CLIP, and Eva
    # with rotary embeddings
] = {
    "vit_tiny_patch16_224": {"eval_size": 32, "patch_size": 8, **SMALL},
    "deit_tiny_distilled_patch16_224": {"eval_size": 32, "patch_size": 8, **SMALL},
    "vit_base_patch16_siglip_224": {"eval_size": 32, **SMALL},
    "vit_small_patch14_reg4_dinov2": {"eval_size": 56, **SMALL},
    "vit_wee_patch16_reg1_gap_256": {"eval_size": 32, **SMALL},
    "vit_base_patch16_clip_quickgelu_224": {"eval_size": 32, **SMALL},
    "eva02_tiny_patch14_224": {"eval_size": 56, "width": 48, "depth": 2, "heads": 3},
    "vit_small_patch16_dinov3": {"eval_size": 64, **SMALL},
    "vit_base_patch16_rope_mixed_224": {"eval_size": 32, **SMALL},
}
CNNS = ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto")
over_vits = pytest.mark.parametrize("backbone", VITS)
over_cnns = pytest.mark.parametrize("backbone", CNNS)


def vit(backbone: str = "vit_tiny_patch16_224", **changes: Any) -> ImageTower:
    torch.manual_seed(0)
    options: dict[str, Any] = {"init": "random", **VITS[backbone], **changes}
    tower = build_image_tower(Image(backbone, **options))
    with torch.no_grad():
        # class and register tokens start near zero: give every parameter an effect
        for name, parameter in tower.named_parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
            if name.endswith("pos_embed"):
                parameter.mul_(10)
    return tower


def cnn(backbone: str, **changes: Any) -> ImageTower:
    torch.manual_seed(0)
    return build_image_tower(
        Image(backbone, "cnn", **{"init": "random", "eval_size": 64, **changes})
    )


def pixels(height: int, width: int, *, batch: int = 2, seed: int = 0) -> Tensor:
    return random_pixels(batch, 3, height, width, seed=seed)


def original(backbone: str, tower: ImageTower) -> Any:
    """timm's own model, untouched, with the tower's weights."""
    import timm

    own = VITS[backbone]
    names = {
        "eval_size": "img_size",
        "patch_size": "patch_size",
        "width": "embed_dim",
        "depth": "depth",
        "heads": "num_heads",
    }
    options: dict[str, Any] = {names[key]: value for key, value in own.items()}
    model: Any = timm.create_model(backbone, num_classes=0, **options)
    state = tower.trunk.state_dict()
    if isinstance(model.norm, nn.Identity):  # it normalises after averaging
        state = {
            key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: value
            for key, value in state.items()
        }
    difference = model.load_state_dict(state, strict=False)
    assert all(key.startswith("attn_pool.") for key in difference.missing_keys)
    assert not difference.unexpected_keys
    return model.eval()


def normalised(tower: ImageTower, images: Tensor) -> Tensor:
    return (images.float() / 255 - tower.mean) / tower.std


@over_vits
def test_a_vit_at_its_native_size_equals_timm(backbone):
    tower = vit(backbone).eval()
    images = pixels(VITS[backbone]["eval_size"], VITS[backbone]["eval_size"])
    model = original(backbone, tower)
    expected = model.fc_norm(model.forward_features(normalised(tower, images)))
    tokens = tower(images)
    assert not any(
        name.startswith(("trunk.attn_pool", "trunk.head", "trunk.fc_norm"))
        for name in tower.state_dict()
    )
    assert_close(tokens.parts, expected[:, model.num_prefix_tokens :])
    registers = expected[:, int(model.cls_token is not None) : model.num_prefix_tokens]
    found = expected[:, :0] if tokens.registers is None else tokens.registers
    assert_close(found, registers)
    if model.cls_token is None:
        assert tokens.summary is None
    else:
        assert_close(tokens.summary, expected[:, 0])
    assert tokens.mask.all()
    assert tokens.mask.shape == tokens.parts.shape[:2]


@over_vits
def test_dropping_patches_equals_masking_them_in_attention(backbone):
    """Dropping patches equals hiding them from attention, which timm can do on the whole
    sequence.
    """
    tower = vit(backbone).eval()
    size = VITS[backbone]["eval_size"]
    images, keep = pixels(size, size), torch.tensor([[0, 2, 3], [1, 2, 3]])
    model = original(backbone, tower)
    prefix, total = model.num_prefix_tokens, tower(images).parts.shape[1]
    seen = torch.cat(
        (torch.ones(2, prefix), torch.zeros(2, total).scatter_(1, keep, 1.0)), dim=1
    ).bool()
    hidden = model.fc_norm(
        model.forward_features(
            normalised(tower, images),
            attn_mask=seen[:, None, None, :].expand(-1, -1, prefix + total, -1),
        )
    )
    tokens = tower(images, keep)
    assert_close(
        tokens.parts,
        hidden[:, prefix:].gather(1, keep.unsqueeze(-1).expand(-1, -1, tower.width)),
        rtol=1e-4,
        atol=1e-4,
    )
    if tokens.summary is not None:
        assert_close(tokens.summary, hidden[:, 0], rtol=1e-4, atol=1e-4)
    assert tokens.grid is None
    assert tokens.mask.shape == (2, 3)


@over_cnns
def test_cnn_patches_are_in_row_major_order(backbone):
    tower = cnn(backbone).eval()
    images = pixels(64, 160)
    tokens = tower(images)
    expected = tower.trunk.forward_features(
        normalised(tower, images).contiguous(memory_format=torch.channels_last)
    )
    assert tokens.grid == (2, 5)
    for row in range(2):
        for column in range(5):
            assert_close(tokens.parts[:, row * 5 + column], expected[:, :, row, column])


def test_a_cnn_has_no_summary_and_pixels_are_uint8():
    tower = cnn("resnet18")
    assert tower(pixels(64, 64)).summary is None
    with pytest.raises(ValueError, match=r"uint8 .* got torch.float32"):
        tower(pixels(64, 64).float())
    with pytest.raises(ValueError, match="33 x 32 pixels does not divide into patches of 32 x 32"):
        tower.grid(33, 32)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_gradient_checkpointing_changes_no_gradient(backbone):
    plain, keep = vit(backbone), torch.tensor([[0, 2], [1, 3]])
    checkpointed = vit(backbone, gradient_checkpointing=True)
    checkpointed.load_state_dict(plain.state_dict())
    assert checkpointed.trunk.grad_checkpointing
    size = VITS[backbone]["eval_size"]
    for tower in (plain, checkpointed):
        first = tower(pixels(size, size), keep)
        # a second call before the first's backward must not disturb it
        second = tower(pixels(size, size, seed=1), keep.flip(0))
        torch.autograd.backward(first.parts.square().sum() + second.parts.square().sum() / 2)
    for (name, one), (_, other) in zip(
        plain.named_parameters(), checkpointed.named_parameters(), strict=True
    ):
        assert_close(one.grad, other.grad, msg=name)


@pytest.mark.parametrize(
    ("backbone", "family", "message"),
    [
        ("resnet18", "vit", r"image\.backbone 'resnet18' cannot be built as image\.family=vit"),
        ("vit_tiny_patch16_224", "cnn", r"image\.backbone .* is not of image\.family cnn"),
        (
            "swin_tiny_patch4_window7_224",
            "cnn",
            r"image\.backbone 'swin_tiny.* gives NHWC for images of \(224, 224\), expected a map",
        ),
        ("inception_v3", "cnn", r"image\.backbone 'inception_v3' .* not a map"),
        (
            "beit_base_patch16_224",
            "vit",
            r"image\.backbone 'beit_base_patch16_224' cannot be built as image\.family=vit",
        ),
    ],
)
def test_a_wrong_backbone_is_refused_by_name(backbone, family, message):
    with pytest.raises(ValueError, match=message):
        inspect_trunk(Image(backbone, family, init="random"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_size": 36}, r"eval_size=36: choose a multiple of the patch, 8 x 8"),
        ({"width": 33}, r"cannot be built as .*33"),
        ({"init": "supervised"}, r"patch_size.*init 'supervised' fits timm's architecture only"),
        ({"init": "supervised", "stem": "conv"} | TIMMS, r"image\.stem=conv .*'supervised' fits "),
        ({"init": "dyno"}, r"image\.init 'dyno' is unknown: did you mean 'dino'?"),
        ({"weights": "x.pth"}, r"image\.weights is x\.pth, but image\.init=random loads nothing"),
    ],
)
def test_an_invalid_vit_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        vit(**options)
