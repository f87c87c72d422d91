"""A model of open_clip's says here what it says there, and what would not is refused."""

import json
import shutil

import open_clip
import pytest
import torch
from torch.nn import functional

from gestalt.zoo.open_clip import build_dual_encoder, open_model

TEXTS = ["a photo of a dog", "grass", "two cats on a sofa, at night"]
CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def saved(folder, *, vision=(), text=(), **more):
    """A folder as open_clip writes one, with random weights and a normalisation of its own."""
    config = {**CONFIG, **more, "vision_cfg": {**CONFIG["vision_cfg"], **dict(vision)}, "text_cfg": {**CONFIG["text_cfg"], **dict(text)}}
    folder.mkdir(exist_ok=True)
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)  # norms and embeddings too
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return model


def pixels(model, images):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.visual.image_mean, model.visual.image_std))
    return (images / 255 - mean) / std


def images(count=3, *, size=(32, 32)):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("more", [{}, {"custom_text": True}, {"quick_gelu": True}], ids=["clip", "custom text", "quick gelu"])
@torch.no_grad()
def test_images_and_texts_are_embedded_as_open_clip_embeds_them(tmp_path, more):
    theirs = saved(tmp_path / "model", **more)
    ours = open_model(str(tmp_path / "model")).eval()
    torch.testing.assert_close(ours.embed_image(images()), theirs.encode_image(pixels(theirs, images()), normalize=True))
    ids = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'model'}")(TEXTS)
    torch.testing.assert_close(ours.embed_text(TEXTS), theirs.encode_text(ids, normalize=True))
    assert ours.logit_scale == theirs.logit_scale
    assert "open_clip" in ours.image_tower.origin.source


@torch.no_grad()
def test_patches_are_those_of_open_clip_through_the_projection(tmp_path):
    theirs = saved(tmp_path / "model")
    ours = open_model(str(tmp_path / "model")).eval()
    theirs.visual.output_tokens = True
    _, tokens = theirs.visual(pixels(theirs, images()))  # (B, N, D), after the last norm
    expected = functional.normalize(tokens @ theirs.visual.proj, dim=-1).transpose(1, 2).reshape(3, 12, 4, 4)
    torch.testing.assert_close(ours.embed_patches(images()), expected)
    torch.testing.assert_close(ours.patch_tokens(images(), projected=False), tokens.transpose(1, 2).reshape(3, 16, 4, 4))
    assert ours.patch_stride == (8, 8)


@torch.no_grad()
def test_positions_follow_the_grid_at_other_sizes(tmp_path):
    saved(tmp_path / "model")
    ours = open_model(str(tmp_path / "model")).eval()
    trunk = ours.image_tower.trunk
    assert ours.embed_patches(images(size=(16, 64))).shape == (3, 12, 2, 8)
    grid = trunk.visual.positional_embedding[1:].reshape(4, 4, -1)
    for position in (0, 3):  # a grid whose rows are all alike keeps them alike, however many columns it gets
        grid.data[position] = grid[0]
    grid.data[:] = grid[0]
    wide = trunk._positions(6, 4)[1:].reshape(6, 4, -1)
    torch.testing.assert_close(wide, grid[0].expand(6, 4, -1))
    assert torch.equal(trunk._positions(4, 4), trunk.visual.positional_embedding)


REFUSED = {
    "pooling": ({"vision": {"pool_type": "avg"}}, "pooling of avg"),
    "text pooling": ({"text": {"pool_type": "last"}}, "text pooling of last"),
    "text mask": ({"text": {"no_causal_mask": True}}, "text without a causal mask"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_computed_otherwise_is_refused(tmp_path, changes, said):
    saved(tmp_path / "model", **changes)
    with pytest.raises(ValueError, match=said):
        open_model(str(tmp_path / "model"))


def test_a_model_without_weights_or_without_a_name_is_refused(tmp_path):
    saved(tmp_path / "model")
    (tmp_path / "model" / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"zoo:open_clip:.*weights"):
        open_model(str(tmp_path / "model"))
    with pytest.raises(ValueError, match="no weights named"):
        open_model("ViT-B-16")
    with pytest.raises(ValueError, match=r"zoo:open_clip:ViT-B-61:openai"):
        open_model("ViT-B-61:openai")
    shutil.rmtree(tmp_path / "model")


def test_a_tower_that_is_no_vit_of_open_clips_is_refused():
    model = open_clip.create_model("RN50", pretrained=None)
    with pytest.raises(ValueError, match="its image tower is a ModifiedResNet"):
        build_dual_encoder(model, None, name="RN50")


@pytest.mark.parametrize("place", ["text_cfg", "model_cfg"])
def test_a_folder_that_asks_to_run_its_code_is_refused_before_anything_is_built(tmp_path, place, monkeypatch):
    saved(tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    config = json.loads(path.read_text())
    node = config["model_cfg"]["text_cfg"] if place == "text_cfg" else config["model_cfg"]
    node |= {"hf_tokenizer_name": "tokenizer", "tokenizer_kwargs": {"trust_remote_code": True}}
    path.write_text(json.dumps(config))
    monkeypatch.setattr(open_clip, "create_model", None)
    with pytest.raises(ValueError, match="sets trust_remote_code, which would run code of that model"):
        open_model(str(tmp_path / "model"))
