"""Published configurations of open_clip whose image tower is timm's, reduced, agree with
open_clip.
"""

import open_clip
import pytest
import timm
import torch
from open_clip.factory import get_model_config

from gestalt.encoders.weights import WeightsOrigin
from gestalt.zoo.open_clip_towers import take_any_size, tower_of
from gestalt.zoo.timm import TimmModel

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
WIDTH = 64


def reduced(architecture, monkeypatch):
    """Return open_clip's model of reduced depth and width, with random weights, and the number of
    tokens of its texts.
    """
    config = get_model_config(architecture)
    config |= {"embed_dim": WIDTH if config["vision_cfg"]["timm_proj"] == "none" else 48}
    config["vision_cfg"]["timm_model_pretrained"] = False
    config["text_cfg"] |= {"layers": 2, "width": 32, "heads": 2, "vocab_size": 100}
    sizes = {"depth": 2, "embed_dim": WIDTH, "num_heads": 2}
    sizes |= {"attn_pool_num_heads": 2} if "PE" in architecture else {}
    real = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **options: real(name, **options, **sizes)
    )
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    model = kind(**config).eval()
    for parameter in model.parameters():
        # norms, layer scales and embeddings too
        parameter.data += 0.02 * torch.randn(parameter.shape)
    model.visual.image_mean, model.visual.image_std = MEAN, STD
    return model, config["text_cfg"].get("context_length", 77)


@pytest.mark.parametrize(
    "architecture", ["EVA02-B-16", "PE-Core-S-16-384", "ViT-SO400M-14-SigLIP-384"]
)
@torch.no_grad()
def test_a_published_configuration_pools_and_maps_as_open_clip_does(architecture, monkeypatch):
    torch.manual_seed(0)
    model, length = reduced(architecture, monkeypatch)
    size = open_clip.model.to_2tuple(model.visual.image_size)
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    pixels = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    ids = torch.randint(3, 90, (3, length))
    pooled, texts = (
        model.encode_image(pixels, normalize=True),
        model.encode_text(ids, normalize=True),
    )
    options = {"indices": 1, "normalize_intermediates": True, "intermediates_only": True}
    dense = model.visual.forward_intermediates(pixels, **options)["image_intermediates"][-1]
    tower, stride = tower_of(model.visual)
    ours = tower(model, tokenizer=lambda texts: ids, stride=stride, source="test")
    # patches of 14 pixels leave the last 6 of 384 out
    images = images[:, :, : ours.size, : ours.size]
    near = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(ours.embed_image(images), pooled, **near)
    torch.testing.assert_close(ours.embed_text(["a"] * 3), texts, **near)
    torch.testing.assert_close(ours.patch_tokens(images, projected=False), dense, **near)
    down, across = ours.patch_stride
    assert ours.embed_patches(images[:, :, : 2 * down, : 3 * across]).shape[-2:] == (2, 3)
    # after images of another size
    torch.testing.assert_close(ours.embed_image(images), pooled, **near)


@pytest.mark.parametrize(
    "name",
    ["eva02_base_patch16_clip_224", "vit_pe_core_base_patch16_224", "vit_base_patch16_siglip_224"],
)
@torch.no_grad()
def test_a_tower_built_for_one_size_takes_another_as_timm_s_dynamic_tower_does(name):
    torch.manual_seed(0)
    sizes = {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
    fixed, dynamic = (
        timm.create_model(name, **sizes).eval(),
        timm.create_model(name, **sizes, dynamic_img_size=True).eval(),
    )
    dynamic.load_state_dict(fixed.state_dict())
    take_any_size(fixed)
    pixels = torch.randn(1, 3, 48, 80)
    origin = WeightsOrigin("timm", name)
    options = {"mean": MEAN, "std": STD, "origin": origin, "has_text": False}
    ours = TimmModel(fixed, stride=(16, 16), size=48, **options).encode(pixels)
    theirs = dynamic.forward_features(pixels)
    torch.testing.assert_close(ours.parts, theirs[:, fixed.num_prefix_tokens :])
