"""timm's models give the same features here as in timm."""

import huggingface_hub
import pytest
import timm
import torch
from timm.models import save_for_hf
from torch.nn import functional
from torch.testing import assert_close

from gestalt.models.zoo import timm as zoo
from gestalt.models.zoo.timm import architecture_of, open_model
from tests.gestalt.painted import random_pixels, without_len

NEAR = {"atol": 1e-5, "rtol": 1e-5}
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
    "convolutions with a norm after pooling": (
        "convnext_atto",
        {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
    ),
    "colours last, any size": ("test_mambaout", {}),
    "colours last, one size": (
        "swin_tiny_patch4_window7_224",
        {"depths": (1, 1, 1, 1), "embed_dim": 12},
    ),
    "tokens of units, one size": ("hiera_tiny_224", {"stages": (1, 1, 1, 1), "embed_dim": 16}),
    "class token apart, one size": ("cait_xxs24_224", SMALL),
}


def drawn(model):
    """Give every parameter of a model an effect, in place."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, device=parameter.device)
    return model


def saved(folder, name, options):
    model = drawn(timm.create_model(name, num_classes=0, **options).eval())
    save_for_hf(model, str(folder), model_args=options, safe_serialization=True)
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_pooled_and_dense_features_are_timms(tmp_path, name):
    architecture, options = MODELS[name]
    theirs = saved(tmp_path / "model", architecture, options)
    ours = open_model(str(tmp_path / "model")).model
    stride = ours.patch_stride[0]
    if "img_size" in options or "vit" in architecture:
        theirs = timm.create_model(
            architecture, num_classes=0, dynamic_img_size=True, **options
        ).eval()
        theirs.load_state_dict(ours.model.state_dict())
    mean, std = (torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    if ours.only:
        with pytest.raises(ValueError, match=r"built for images of \(224, 224\) pixels alone"):
            ours.grid(224, 240)
    for size in [ours.only] if ours.only else [(4 * stride, 4 * stride), (2 * stride, 5 * stride)]:
        images = random_pixels(2, 3, *size)
        pixels = (images / 255 - mean) / std
        with without_len():
            embedded = ours.embed_image(images)
        assert_close(
            embedded,
            functional.normalize(theirs(pixels), dim=-1),
            **NEAR,
        )
        norm = architecture not in ("test_mambaout", "hiera_tiny_224")  # have none to apply
        expected = theirs.forward_intermediates(
            pixels, indices=1, norm=norm, intermediates_only=True
        )[-1]
        assert_close(ours.patch_tokens(images, projected=False), expected, **NEAR)
        assert ours.embed_patches(images).shape[-2:] == (size[0] // stride, size[1] // stride)


def test_the_default_side_is_the_models_rounded_to_its_stride(tmp_path):
    saved(tmp_path / "model", "vit_tiny_patch16_224", {**SMALL, "patch_size": (32, 24)})
    model = open_model(str(tmp_path / "model")).model
    assert model.size == 192
    assert model.grid(192, 192)


def test_the_record_of_a_folder_names_its_architecture(tmp_path):
    saved(tmp_path / "my.model", "vit_tiny_patch16_224", MODELS["class token"][1])
    assert architecture_of(str(tmp_path / "my.model")) == "vit_tiny_patch16_224"
    assert architecture_of("vit_base_patch8_224.dino") == "vit_base_patch8_224"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_224.nowhere", r"; choose (vit_base_patch16_224\.\S+, ){9}vit_\S+$"),
        ("crossvit_tiny_240", r"\(CrossVit\): gives a list, not a map or tokens: choose another$"),
        ("test_vit.r160_in1k", "needs files of the hub, and HF_HUB.* name a folder that has them"),
    ],
)
def test_a_name_that_cannot_be_scored_is_refused_without_waiting(name, message, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        open_model(name)


REFUSED = (
    "coat_tiny crossvit_tiny_240 efficientvim_m1 inception_resnet_v2 inception_v3 inception_v4"
)
REFUSED += " pit_ti_224"
"""The smallest models of timm's files that have no map: lists of features, a map that does not
divide the image, a class token alone.
"""
TOO_LARGE = 6e7  # parameters, to be built here


@pytest.mark.nightly
@torch.no_grad()
def test_the_smallest_model_of_each_file_of_timm_opens_or_is_refused_by_name(monkeypatch):
    create = zoo.create

    def build(name, *, pretrained=False, **options):
        model = create(name, **options)
        return drawn(model) if pretrained else model

    monkeypatch.setattr(zoo, "create", build)
    refused = []
    for file in timm.list_modules():
        size, name = min((parameters(name), name) for name in timm.list_models(module=file))
        if size > TOO_LARGE:
            continue
        try:
            model = open_model(name).model
        except ValueError as error:
            refused += [name] if ": gives " in str(error) else [str(error)]
            continue
        pixels = model.normalise(random_pixels(1, 3, *(model.only or (model.size, model.size))))
        tokens = model.encode(pixels)
        assert_close(model.head(tokens), model.model(pixels), msg=name)
        assert model.form == "NCHW" or in_order(model.model, pixels, tokens.parts[0]), name
    assert refused == REFUSED.split()


def parameters(name):
    """Return the number of parameters of a timm model."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def in_order(model, pixels, parts):
    """Return True if parts (N, D) are nearest to the locations of timm's map in their order."""
    maps = model.forward_intermediates(pixels, indices=1, intermediates_only=True)[0][0]
    rows = [functional.layer_norm(x, x.shape[-1:]) for x in (parts, maps.flatten(1).T)]
    near = torch.cdist(*(x - x.mean(dim=0) for x in rows)).argmin(dim=1)
    return torch.equal(near, torch.arange(len(parts)))
