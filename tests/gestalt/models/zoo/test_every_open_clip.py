"""Published configurations of open_clip whose image tower is timm's, reduced, agree with
open_clip.
"""

import open_clip
import pytest
import timm
import torch
from open_clip.factory import get_model_config
from torch.testing import assert_close

from gestalt.models.zoo.open_clip_towers import tower_of
from tests.gestalt.painted import random_pixels

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
    images = random_pixels(2, 3, *size)
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
    assert_close(ours.embed_image(images), pooled, **near)
    assert_close(ours.embed_text(["a"] * 3), texts, **near)
    assert_close(ours.patch_tokens(images, projected=False), dense, **near)
    name = get_model_config(architecture)["vision_cfg"]["timm_model_name"]
    trunk = model.visual.trunk
    dynamic = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    dynamic.load_state_dict(trunk.state_dict(), strict=False)
    wide = torch.randn(1, 3, 2 * stride[0], 3 * stride[1])
    parts = dynamic.forward_features(wide)[:, trunk.num_prefix_tokens :]
    assert_close(ours.encode(wide).parts, parts)
    # after images of another size
    assert_close(ours.embed_image(images), pooled, **near)
