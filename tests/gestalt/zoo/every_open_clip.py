"""Every published configuration of open_clip, at reduced depth and width, against open_clip.

Text models of the hub are replaced by tiny ones of their kind.
"""

import copy
from contextlib import ExitStack
from unittest.mock import patch

import open_clip
import timm
import torch
from open_clip.factory import get_model_config
from torch.nn import functional

from gestalt.encoders.backbones import is_vit
from gestalt.zoo.open_clip_towers import OpenClipResNet, OpenClipTimm, OpenClipViT, tower_of

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
LARGEST = 1e-5
"""Largest difference of unit vectors, and of features relative to the largest of them."""


def compare(architecture, *, folder):
    """Compare a reduced model with open_clip's at its own size and run it off its size; returns the largest difference."""
    torch.manual_seed(0)
    config, timm_options = reduced(architecture, folder=folder)
    real = timm.create_model
    with ExitStack() as stack:
        stack.enter_context(patch.object(timm, "create_model", lambda name, **options: real(name, **options, **timm_options)))
        model = built(config)
        with torch.device("meta"):
            tower, stride = tower_of(open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"]).eval())
    size = open_clip.model.to_2tuple(model.visual.image_size)
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pixels = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    ids = torch.randint(3, 90, (3, config["text_cfg"].get("context_length", 77)), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        pooled, texts = model.encode_image(pixels, normalize=True), model.encode_text(ids, normalize=True)
        dense = their_features(model, pixels, tower=tower)
        ours = tower(model, tokenizer=lambda texts: ids, stride=stride, source="test")
        images = images[:, :, : ours.size, : ours.size]  # patches of 14 pixels leave the last 6 of 384 out
        differences = [
            (ours.embed_image(images) - pooled).abs().max().item(),
            (ours.embed_text(["a"] * 3) - texts).abs().max().item(),
        ]
        if dense is not None:
            features = ours.patch_tokens(images, projected=False)
            differences.append(((features - dense).abs().max() / dense.abs().max()).item())
        check_off_size(ours, images)
        again = (ours.embed_image(images) - pooled).abs().max().item()
    return max(*differences, again)


def check_off_size(ours, images):
    """Check maps of an image that is not square."""
    down, across = ours.patch_stride
    maps = ours.embed_patches(functional.interpolate(images.float(), (2 * down, 3 * across)).to(torch.uint8))
    assert maps.shape[-2:] == (2, 3)
    assert torch.allclose(maps.norm(dim=1), torch.ones(()), atol=1e-4)


def their_features(model, pixels, *, tower):
    """Features of locations as open_clip gives them before the head, (B, D, h, w); None where it gives none or others."""
    if tower is OpenClipViT:
        normed = not model.visual.final_ln_after_pool and model.visual.attn_pool is None
        output = model.visual.forward_intermediates(pixels, indices=1, normalize_intermediates=normed, intermediates_only=True)
    elif tower is OpenClipResNet or is_vit(model.visual.trunk) or "ConvNeXt" in type(model.visual.trunk).__name__:
        output = model.visual.forward_intermediates(pixels, indices=1, normalize_intermediates=True, intermediates_only=True)
    else:
        assert tower is OpenClipTimm
        return None  # timm's FastViT has a last convolution after its intermediates
    return output["image_intermediates"][-1]


def built(config):
    """Build open_clip's model of a configuration with random weights."""
    config = copy.deepcopy(config)
    custom = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = open_clip.CLIP if not custom else open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    model = kind(**config).eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)  # norms, layer scales and embeddings too
    model.visual.image_mean, model.visual.image_std = MEAN, STD
    return model


def reduced(architecture, *, folder):
    """Return the configuration at reduced depth and width, and keywords that reduce timm's tower."""
    config = get_model_config(architecture)
    vision, text = config["vision_cfg"], config["text_cfg"]
    options = {}
    config["embed_dim"] = 48
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
        options = timm_reduction(vision["timm_model_name"])
        if vision["timm_proj"] == "none":
            config["embed_dim"] = options["embed_dim"]
    elif isinstance(vision["layers"], list):
        vision |= {"layers": [1, 1, 1, 1], "width": 16}
    else:
        vision |= {"layers": 2, "width": 2 * vision.get("head_width", 64)}
        vision |= {"attn_pooler_heads": 2} if vision.get("attentional_pool") else {}
    if "hf_model_name" in text:
        text |= {"hf_model_name": tiny_text(text["hf_model_name"], folder=folder), "hf_model_pretrained": False}
    else:
        text |= {"layers": 2, "width": 32, "heads": 2, "vocab_size": 100}
        text |= {"width": config["embed_dim"]} if text.get("proj_type") == "none" else {}
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= {"layers": 1, "width": 48, "heads": 2, "vocab_size": 100}
    return config, options


def timm_reduction(name):
    """Return keywords that make a timm model shallow and narrow."""
    if name.startswith("convnext"):
        return {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48)}
    if name.startswith("fastvit"):
        return {"layers": (1,) * (5 if name in ("fastvit_mci3", "fastvit_mci4") else 4)}
    if name.startswith(("vitamin", "vit_base_mci")):
        return {"depth": 1}  # their convolutional stems fix the width
    if "pe_core" in name:
        return {"depth": 2, "embed_dim": 64, "num_heads": 2, "attn_pool_num_heads": 2}
    return {"depth": 2, "embed_dim": 64, "num_heads": 2}


def tiny_text(name, *, folder):
    """Write the configuration of a tiny text model of the same kind and return its folder."""
    from transformers import M2M100Config, RobertaConfig, XLMRobertaConfig

    sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    if "nllb" in name:
        config = M2M100Config(vocab_size=100, d_model=32, encoder_attention_heads=2, decoder_attention_heads=2, **layers)
    else:
        config = (XLMRobertaConfig if "xlm" in name else RobertaConfig)(**sizes)
    config.save_pretrained(folder)
    return str(folder)
