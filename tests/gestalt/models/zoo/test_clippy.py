"""The public CLIPpy checkpoint under our names: every tensor is mapped to a parameter, and none is
left out.
"""

import pytest
import torch

from gestalt.config.loading import load
from gestalt.models.opening import open_target
from gestalt.models.start import build_model
from gestalt.models.zoo.clippy import MEAN, load_into
from gestalt.models.zoo.kinds import DEFAULTS
from tests.gestalt.encoders.tiny_text import save_t5
from tests.gestalt.painted import random_pixels

SIZES = (
    "image.backbone=vit_tiny_patch16_224",
    "image.width=6",
    "image.depth=2",
    "image.heads=1",
    "projection.width=6",
)


@pytest.fixture
def tiny(tmp_path):
    """Words of a configuration whose towers are tiny, and a model of it."""
    words = [*SIZES, f"text.model={save_t5(tmp_path / 't5')}", "text.max_length=16"]
    config = load(None, scale=None, overrides=[*DEFAULTS, "image.init=random", *words])
    return words, build_model(config)


def theirs(model, *, prefix="module.", encoder="auto_model"):
    """A state dict as the checkpoint has it, of other weights than the model's."""
    names = {
        "image.tower.trunk.": "visual.trunk.",
        "text.tower.model.": f"text.0.{encoder}.",
        "text.tower.dense.0.": "text.2.linear.",
    }
    torch.manual_seed(5)
    state = {}
    for key, value in model.state_dict().items():
        if key not in ("image.tower.mean", "image.tower.std"):
            start = next((name for name in names if key.startswith(name)), "")
            state[prefix + names.get(start, "") + key.removeprefix(start)] = torch.randn(
                value.shape
            )
    shared = f"{prefix}text.0.{encoder}.shared.weight"
    twin = f"{prefix}text.0.{encoder}.encoder.embed_tokens.weight"
    state[shared] = state[twin] = state.get(shared, state.get(twin))
    return state


@pytest.mark.parametrize(
    ("prefix", "encoder", "wrapped"), [("module.", "auto_model", True), ("", "model", False)]
)
def test_checkpoint_tensors_are_loaded_into_their_parameters(
    tiny, tmp_path, prefix, encoder, wrapped
):
    _, model = tiny
    state = theirs(model, prefix=prefix, encoder=encoder)
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "clippy.pt")
    load_into(model, tmp_path / "clippy.pt")
    own = model.state_dict()
    assert torch.equal(
        own["image.tower.trunk.blocks.1.attn.qkv.weight"],
        state[f"{prefix}visual.trunk.blocks.1.attn.qkv.weight"],
    )
    assert torch.equal(own["text.tower.dense.0.weight"], state[f"{prefix}text.2.linear.weight"])
    assert torch.equal(own["logit_scale"], state[f"{prefix}logit_scale"])
    name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert torch.equal(own[f"text.tower.model.{name}"], state[f"{prefix}text.0.{encoder}.{name}"])
    assert torch.equal(
        own["text.tower.model.shared.weight"], state[f"{prefix}text.0.{encoder}.shared.weight"]
    )
    assert model.image_tower.mean.flatten().tolist() == pytest.approx(MEAN)


def test_a_checkpoint_that_lacks_has_more_or_differs_is_refused_by_the_tensor(tiny, tmp_path):
    _, model = tiny
    whole = theirs(model)
    lacking = {key: value for key, value in whole.items() if "norm.bias" not in key}
    more = {**whole, "module.visual.head.weight": torch.ones(1)}
    other = {**whole, "module.text.2.linear.weight": torch.ones(3, 3)}
    deeper = {**whole, "module.visual.trunk.blocks.2.norm1.weight": torch.ones(6)}
    for state, said in (
        (lacking, r"missing: image\.tower\.trunk\.norm\.bias"),
        (more, r"holds visual\.head\.weight, which is not part"),
        (other, r"of another shape: text\.tower\.dense\.0\.weight"),
        (deeper, r"unexpected: image\.tower\.trunk\.blocks\.2"),
    ):
        torch.save({"state_dict": state}, tmp_path / "clippy.pt")
        with pytest.raises(ValueError, match=said):
            load_into(model, tmp_path / "clippy.pt")


@torch.no_grad()
def test_the_words_of_the_configuration_make_its_towers_and_choose_its_maximum(tiny, tmp_path):
    words, model = tiny
    torch.save({"state_dict": theirs(model)}, tmp_path / "clippy.pt")
    images = random_pixels(8, 3, 32, 32)
    # the checkpoint's positions are those of 224 pixels, whatever it is scored at
    for aggregation in ("max", "max_with_cls"):
        asked = [*words, f"image.aggregation={aggregation}", "image.eval_size=32"]
        opened = open_target(f"zoo:clippy:{tmp_path / 'clippy.pt'}", overrides=asked)
        assert opened.config.image.eval_size == 32
        tokens = opened.model.eval().tokens(images)
        largest = tokens.parts.amax(dim=1)
        if aggregation == "max_with_cls":
            largest = torch.maximum(largest, tokens.summary)
        pooled = opened.model.embed_image(images)
        torch.testing.assert_close(pooled, torch.nn.functional.normalize(largest, dim=1))
