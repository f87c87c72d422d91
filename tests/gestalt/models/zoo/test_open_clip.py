"""Models of open_clip give the same outputs here as in open_clip, and those that would not are
refused.
"""

import json

import open_clip
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from gestalt.models.zoo.open_clip import open_model
from tests.gestalt.painted import random_pixels, without_len

TEXTS = ["a photo of a dog", "grass", "two cats on a sofa, at night"]
CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def write_config(folder, *, vision=(), text=(), **more):
    """Write the configuration of a tiny model with a normalisation of its own."""
    config = {
        **CONFIG,
        **more,
        "vision_cfg": {**CONFIG["vision_cfg"], **dict(vision)},
        "text_cfg": {**CONFIG["text_cfg"], **dict(text)},
    }
    folder.mkdir(exist_ok=True)
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent="\t")
    )


def saved(folder, *, vision=(), text=(), **more):
    """A folder as open_clip writes one, with random weights; see ``write_config``."""
    write_config(folder, vision=vision, text=text, **more)
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)  # norms and embeddings too
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model


def pixels(model, images):
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (model.visual.image_mean, model.visual.image_std)
    )
    return (images / 255 - mean) / std


def images(count=3, *, size=(32, 32)):
    return random_pixels(count, 3, *size, seed=1)


COCA = {
    "vision": {
        "attentional_pool": True,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 5,
        "output_tokens": True,
    },
    "text": {"embed_cls": True, "output_tokens": True},
    "custom_text": True,
    "multimodal_cfg": {**CONFIG["text_cfg"], "layers": 1, "attn_pooler_heads": 2},
}
CLIPA = {
    "vision": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "text": {"pool_type": "last", "no_causal_mask": True},
}
RESNET = {"vision": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "patch_size": None}}
CONVNEXT = {
    "vision": {
        "timm_model_name": "test_convnext",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 160,
    }
}
SIGLIP = {
    "vision": {
        "timm_model_name": "test_vit",
        "timm_pool": "map",
        "timm_proj": "none",
        "image_size": 160,
    },
    "embed_dim": 64,
    "text": {"pool_type": "last", "no_causal_mask": True, "proj_bias": True},
    "custom_text": True,
    "init_logit_bias": -10,
}
FAMILIES = {
    "clip": {},
    "quick gelu": {"quick_gelu": True},
    "average": {"vision": {"pool_type": "avg"}},
    "CLIPA": CLIPA,
    "CoCa": COCA,
    "modified ResNet": RESNET,
    "ConvNeXt": CONVNEXT,
    "SigLIP": SIGLIP,
}


@pytest.mark.parametrize("more", FAMILIES.values(), ids=FAMILIES)
@torch.no_grad()
def test_images_and_texts_are_embedded_as_open_clip_embeds_them(tmp_path, more):
    theirs = saved(tmp_path / "model", **more)
    ours = open_model(str(tmp_path / "model")).model
    shown = images(size=(ours.size, ours.size))
    with without_len():
        tokens = ours.tokens(shown)
        embedded = ours.head(tokens)
        ours.locations(tokens)
    assert_close(
        functional.normalize(embedded, dim=-1),
        theirs.encode_image(pixels(theirs, shown), normalize=True),
    )
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")(TEXTS)
    assert_close(ours.embed_text(TEXTS), theirs.encode_text(ids, normalize=True))
    assert ours.logit_scale == theirs.logit_scale
    assert "open_clip" in ours.image_origin.source
    height, width = (side * factor for side, factor in zip(ours.patch_stride, (3, 5), strict=True))
    assert ours.embed_patches(images(size=(height, width))).shape == (
        3,
        theirs.encode_text(ids).shape[1],
        3,
        5,
    )


@torch.no_grad()
def test_attentional_pooling_of_a_location_alone_is_computed_by_one_query(tmp_path):
    saved(tmp_path / "model", **COCA)
    ours = open_model(str(tmp_path / "model")).model
    tokens = ours.tokens(images())
    assert_close(ours.locations(tokens), super(type(ours), ours).locations(tokens))


@torch.no_grad()
def test_locations_of_a_modified_resnet_are_its_attention_pooling_with_all_weight_on_them(tmp_path):
    theirs = saved(tmp_path / "model", **RESNET)
    ours = open_model(str(tmp_path / "model")).model
    pool = theirs.visual.attnpool
    pool.k_proj.weight.zero_()
    pool.k_proj.bias.zero_()  # every key alike: the mean of the values
    pool.positional_embedding.zero_()
    tokens = ours.tokens(images(size=(96, 64)))
    values = pool.c_proj(pool.v_proj(tokens.parts))
    assert_close(ours.model.visual.attnpool.v_proj.weight, pool.v_proj.weight)
    assert_close(ours.locations(tokens), values)
    maps = tokens.parts.transpose(1, 2).reshape(3, -1, 3, 2)[:, :, :2]
    assert_close(pool(maps), values[:, :4].mean(dim=1))


REFUSED = {
    "pooling": ({"vision": {"pool_type": "none"}}, "does not pool to one vector"),
    "timm pool": (
        {"vision": {"timm_model_name": "resnet18", "timm_pool": "rot_attn", "timm_proj": None}},
        "timm_pool abs_attn or rot_attn",
    ),
    "no map": (
        {"vision": {"timm_model_name": "swin_tiny_patch4_window7_224", "timm_pool": "avg"}},
        "its image tower, timm's 'Swin",
    ),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_an_image_tower_that_cannot_be_read_exactly_is_refused_by_its_configuration(
    tmp_path, changes, said
):
    write_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"open_clip:.*{said}"):
        open_model(str(tmp_path))


def test_a_normalisation_of_two_colours_is_refused(tmp_path):
    saved(tmp_path)
    file = tmp_path / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["preprocess_cfg"]["mean"] = [0.4, 0.5]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"open_clip .*: the mean of its preprocessing is \[0.4, "):
        open_model(str(tmp_path))


def test_a_model_without_weights_is_refused(tmp_path):
    saved(tmp_path / "model")
    (tmp_path / "model/open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"open_clip:.*weights"):
        open_model(str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-16:openai", "another activation; choose ViT-B-16-quickgelu:openai"),
        (
            "RN50:opena",
            "opena is neither a tag nor a file of weights; choose RN50-quickgelu:openai",
        ),
        ("ViT-B-16", "no weights named"),
    ],
)
def test_weights_of_another_activation_are_refused_before_they_are_downloaded(
    name, said, monkeypatch
):
    monkeypatch.setattr(open_clip, "create_model", None)
    with pytest.raises(ValueError, match=f"open_clip:{name}: .*{said}"):
        open_model(name)


def test_a_text_tower_that_would_run_code_is_refused(tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    (text / "config.json").write_text(
        json.dumps({"model_type": "roberta", "auto_map": {"AutoModel": "code.Model"}})
    )
    write_config(tmp_path, text={"hf_model_name": str(text), "hf_tokenizer_name": "x"})
    with pytest.raises(ValueError, match="text has auto_map, which would run code of that model"):
        open_model(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["code.Words", None]}})
    )
    with pytest.raises(
        ValueError,
        match=r"tokenizer_config\.json of .* has auto_map, which would run code of that model",
    ):
        open_model(str(tmp_path))


def test_a_folder_that_asks_to_run_its_code_is_refused_before_anything_is_built(
    tmp_path, monkeypatch
):
    saved(tmp_path / "model")
    path = tmp_path / "model/open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] |= {
        "hf_tokenizer_name": "tokenizer",
        "tokenizer_kwargs": {"trust_remote_code": True},
    }
    path.write_text(json.dumps(config))
    monkeypatch.setattr(open_clip, "create_model", None)
    with pytest.raises(
        ValueError, match="sets trust_remote_code, which would run code of that model"
    ):
        open_model(str(tmp_path / "model"))
