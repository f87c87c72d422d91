"""Every family of transformers' contrastive models gives the same outputs here, at its native and
at other sizes.
"""

from functools import partial
from unittest import mock

import pytest
import torch
import transformers
from torch.nn import functional
from torch.testing import assert_close

from gestalt.encoders.last_block import LastBlock
from gestalt.encoders.readings import read_last_block
from gestalt.models.zoo import hf, open_clip
from gestalt.models.zoo.hf import open_model
from gestalt.tables import READINGS
from tests.gestalt.models.zoo import test_open_clip
from tests.gestalt.models.zoo.test_python import images
from tests.gestalt.models.zoo.tiny_hf import KINDS, SIZE, saved
from tests.gestalt.painted import without_len

near = partial(assert_close, atol=1e-5, rtol=0)
TEXTS = ["a photo of a dog", "grass", "the sky of a cat the sky of a cat the sky"]


def inputs(folder, shown, *, kind):
    """Input of the library's own image processor, without resizing."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    options = {} if kind == "SigLIP 2" else {"do_center_crop": False}
    return dict(processor(images=list(shown), do_resize=False, return_tensors="pt", **options))


def both(folder, kind):
    """A tiny model as the library has it, and as it is opened here."""
    return saved(folder, kind=kind), open_model(str(folder)).model


def any_size(kind):
    same = kind in ("SigLIP 2", "ALIGN", "TIPSv2")
    return {} if same else {"interpolate_pos_encoding": True}


def expected(model, given, *, kind, shape):
    """The library's image embeddings (B, E), and its head on the features of each location,
    (B, N, E).
    """
    hidden = model.vision_model(**given, **any_size(kind)).last_hidden_state
    if kind == "BLIP retrieval":
        return model.vision_proj(hidden[:, 0]), model.vision_proj(hidden[:, 1:])
    pooled = model.get_image_features(**given, **any_size(kind)).pooler_output
    if kind == "ALIGN":
        return pooled, hidden.flatten(2).transpose(1, 2)
    if kind == "TIPSv2":
        return pooled, hidden[:, 3:]
    if kind.startswith("SigLIP"):
        count = shape[0] * shape[1] // 256
        alone = hidden[:, :count].flatten(0, 1).unsqueeze(1)
        return pooled, model.vision_model.head(alone).reshape(2, count, -1)
    return pooled, model.visual_projection(model.vision_model.post_layernorm(hidden[:, 1:]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "GroupViT"])
@torch.no_grad()
def test_images_and_locations_are_embedded_as_transformers_does(tmp_path, kind):
    shape = (96, 64) if kind in ("CLIP", "SigLIP 2", "ALIGN", "TIPSv2") else (SIZE, SIZE)
    theirs, ours = both(tmp_path, kind)
    shown = images(shape)
    pooled, dense = expected(theirs, inputs(tmp_path, shown, kind=kind), kind=kind, shape=shape)
    near(ours.embed_image(shown), functional.normalize(pooled, dim=-1))
    with without_len():
        maps = ours.embed_patches(shown)
    assert (maps.shape[-2:], ours.size) == (ours.grid(*shape), SIZE)
    near(maps.flatten(2).transpose(1, 2), functional.normalize(dense, dim=-1))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_texts_are_embedded_as_transformers_does(tmp_path, kind):
    theirs, ours = both(tmp_path, kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    padding = "max_length" if kind.startswith("SigLIP") else True
    words = tokenizer(TEXTS, padding=padding, truncation=True, max_length=10, return_tensors="pt")
    words.pop("token_type_ids", None)
    if kind == "BLIP retrieval":
        features = theirs.text_proj(theirs.text_encoder(**words).last_hidden_state[:, 0])
    else:
        features = theirs.get_text_features(**words).pooler_output
    near(ours.embed_text(TEXTS), functional.normalize(features, dim=-1))


@torch.no_grad()
def test_groupvit_images_and_locations_match_the_segmentation_of_transformers(tmp_path):
    theirs, ours = both(tmp_path, "GroupViT")
    shown = images((SIZE, SIZE))
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    words.pop("token_type_ids", None)
    given = inputs(tmp_path, shown, kind="GroupViT")
    output = theirs(**words, **given, output_segmentation=True)
    logits = output.segmentation_logits / theirs.logit_scale.exp() ** 2
    with without_len():
        embedded = ours.embed_image(shown)
    near(embedded, output.image_embeds)
    scores = torch.einsum(
        "behw,ke->bkhw", ours.patch_tokens(shown, projected=True), ours.embed_text(TEXTS)
    )
    wide = functional.interpolate(scores, size=(SIZE, SIZE), mode="bilinear")
    near(wide, logits)


@pytest.mark.parametrize("kind", ["CLIP", "SigLIP", "BLIP", "TIPSv2"])
@torch.no_grad()
def test_the_decomposed_last_block_gives_the_same_output(tmp_path, kind):
    _, ours = both(tmp_path, kind)
    shown = images((96, 64))
    block = ours.last_block()
    assert isinstance(block, LastBlock)
    with read_last_block(block, READINGS["plain"], grid=(6, 4)):
        again = ours.embed_image(shown)
    near(again, ours.embed_image(shown))


@pytest.mark.parametrize("kind", ["CLIP", "SigLIP", "TIPSv2"])
@torch.no_grad()
def test_a_position_rule_applies_only_to_the_call_and_not_at_the_native_size(tmp_path, kind):
    _, ours = both(tmp_path, kind)
    shown = images((96, 64))
    before = ours.embed_patches(shown)
    assert not torch.equal(ours.embed_patches(shown, positions="scale_factor"), before)
    assert torch.equal(ours.embed_patches(shown), before)
    square = images((SIZE, SIZE))
    assert_close(ours.embed_patches(square, positions="scale_factor"), ours.embed_patches(square))


@pytest.mark.parametrize("kind", ["open_clip", "CLIP", "GroupViT"])
@torch.no_grad()
def test_a_graph_resizes_positions_at_the_native_size_too(tmp_path, kind, monkeypatch):
    if kind == "open_clip":
        test_open_clip.saved(tmp_path)
    else:
        saved(tmp_path, kind=kind)
    ours = (open_clip if kind == "open_clip" else hf).open_model(str(tmp_path)).model
    shown = images((ours.size, ours.size))
    with mock.patch.object(functional, "interpolate", wraps=functional.interpolate) as resized:
        before = ours.embed_patches(shown)
        assert not resized.called
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        assert_close(ours.embed_patches(shown), before)
        assert resized.called
    assert not torch.jit.is_tracing()
