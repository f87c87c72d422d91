"""timm's models give the same features here as in timm."""

import huggingface_hub
import pytest
import timm
import torch
from timm.models import save_for_hf
from torch.nn import functional

from gestalt.zoo.timm import describe, open_model

SMALL = {"depth": 1, "embed_dim": 24, "num_heads": 2}
MODELS = {
    "class token": ("vit_tiny_patch16_224", {**SMALL, "img_size": 64}),
    "average and its norm": ("vit_base_patch16_rope_reg1_gap_256", {**SMALL, "embed_dim": 16}),
    "map pooling": ("vit_base_patch16_siglip_224", {**SMALL, "img_size": 64}),
    "average over class token and registers": (
        "vit_tiny_patch16_224",
        {
            **SMALL,
            "img_size": 64,
            "reg_tokens": 2,
            "global_pool": "avg",
            "pool_include_prefix": True,
        },
    ),
    "registers and layer scale": ("vit_small_patch14_reg4_dinov2", {**SMALL, "img_size": 56}),
    "convolutions with a norm after pooling": (
        "convnext_atto",
        {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    ),
}


def saved(folder, name, options):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    save_for_hf(model, str(folder), model_args=options, safe_serialization=True)
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_pooled_and_dense_features_are_timms(tmp_path, name):
    architecture, options = MODELS[name]
    theirs = saved(tmp_path / "model", architecture, options)
    ours = open_model(str(tmp_path / "model"))
    stride = ours.patch_stride[0]
    if "img_size" in options or "vit" in architecture:
        theirs = timm.create_model(
            architecture, num_classes=0, dynamic_img_size=True, **options
        ).eval()
        theirs.load_state_dict(ours.model.state_dict())
    mean, std = (torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    for size in ((4 * stride, 4 * stride), (2 * stride, 5 * stride)):
        images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
        pixels = (images / 255 - mean) / std
        torch.testing.assert_close(
            ours.embed_image(images),
            functional.normalize(theirs(pixels), dim=-1),
            atol=1e-5,
            rtol=1e-5,
        )
        expected = theirs.forward_intermediates(
            pixels, indices=1, norm=True, intermediates_only=True
        )[-1]
        torch.testing.assert_close(
            ours.patch_tokens(images, projected=False), expected, atol=1e-5, rtol=1e-5
        )
        assert ours.embed_patches(images).shape[-2:] == (size[0] // stride, size[1] // stride)


def test_the_default_side_is_the_models_rounded_to_its_stride(tmp_path):
    saved(tmp_path / "model", "vit_tiny_patch16_224", {**SMALL, "patch_size": (32, 24)})
    model = open_model(str(tmp_path / "model"))
    assert model.size == 192
    assert model.grid(192, 192)


def test_the_record_of_a_folder_names_its_architecture(tmp_path):
    saved(tmp_path / "my.model", "vit_tiny_patch16_224", MODELS["class token"][1])
    assert describe(str(tmp_path / "my.model"))["architecture"] == "vit_tiny_patch16_224"
    assert describe("vit_base_patch8_224.dino")["architecture"] == "vit_base_patch8_224"


def test_embedding_text_with_a_vision_only_model_is_refused(tmp_path):
    saved(tmp_path / "model", *MODELS["class token"])
    model = open_model(str(tmp_path / "model"))
    assert not model.has_text
    with pytest.raises(ValueError, match="vision-only: it has no text"):
        model.embed_text(["a dog"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_224.nowhere", r"; choose (vit_base_patch16_224\.\S+, ){9}vit_\S+$"),
        ("swin_tiny_patch4_window7_224", "not a map"),
        ("test_vit.r160_in1k", "needs files of the hub, and HF_HUB.* name a folder that has them"),
    ],
)
def test_a_name_that_cannot_be_scored_is_refused_without_waiting(name, message, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        open_model(name)


def test_a_saved_model_whose_features_are_a_list_is_refused_in_one_line(tmp_path):
    save_for_hf(timm.create_model("crossvit_tiny_240", num_classes=0), str(tmp_path))
    with pytest.raises(
        ValueError,
        match=f"^timm:{tmp_path}: .* gives list for 256 x 128 pixels, not a map .*: choose",
    ):
        open_model(str(tmp_path))
