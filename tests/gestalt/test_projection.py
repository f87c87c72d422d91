"""The maps to the shared width against their equations.  B batch, N parts, R registers, D width."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.config.loading import load
from gestalt.encoders.weights import weights_hash
from gestalt.losses.contrastive import contrastive_loss
from gestalt.measures.evaluation.prompts import class_embeddings, prompts_key
from gestalt.measures.evaluation.vocabularies import Vocabulary
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.models.building import build_towers
from gestalt.models.folder import save_folder
from gestalt.models.start import build_model
from gestalt.projection import (
    BlocksProjection,
    GatedProjection,
    MlpProjection,
    TokenProjection,
    TrunkBlocksProjection,
)
from gestalt.tables import AGGREGATIONS, PROJECTIONS
from gestalt.tokens import Tokens
from tests.gestalt.encoders.test_towers import DINO
from tests.gestalt.painted import random_pixels

JOINED = [name for name in AGGREGATIONS.built_in if AGGREGATIONS.row(name).beside]
OF_A_START = ("siglip", "classifier", "classifier_image")
WORDS = ["a dog", "grass"]


def tokens(summary: bool = True, *, registers: int = 0, width: int = 4) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(2, 6, width, generator=generator)
    return Tokens(
        torch.randn(2, width, generator=generator) if summary else None,
        parts,
        torch.ones(2, 6, dtype=torch.bool),
        (2, 3),
        torch.randn(2, registers, width, generator=generator) if registers else None,
    )


def test_every_part_is_projected_by_the_same_matrix():
    projection = TokenProjection(4, 3)
    torch.testing.assert_close(
        projection(tokens()).parts, tokens().parts @ projection.linear.weight.T
    )


def test_projection_keeps_mask_and_grid():
    before = tokens()._replace(mask=torch.tensor([[True] * 5 + [False]] * 2))
    after = TokenProjection(4, 3)(before)
    assert after.grid == (2, 3)
    assert torch.equal(after.mask, before.mask)


def test_tokens_of_unit_variance_keep_their_scale():
    torch.manual_seed(0)
    wide = Tokens(None, torch.randn(4, 50, 256), torch.ones(4, 50, dtype=torch.bool), None)
    assert 0.9 < TokenProjection(256, 128)(wide).parts.std().item() < 1.1


def stirred(projection: torch.nn.Module) -> dict[str, Tensor]:
    """Move all parameters from their start, and return them by name."""
    generator = torch.Generator().manual_seed(1)
    for parameter in projection.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return dict(projection.state_dict())


def test_two_layers_and_gated_layers_are_their_equations():
    x = tokens().parts
    w = stirred(layers := MlpProjection(4, 3))
    hidden = torch.tanh(x @ w["layers.0.weight"].T + w["layers.0.bias"])
    expected = hidden @ w["layers.2.weight"].T + w["layers.2.bias"]
    torch.testing.assert_close(layers.project(x), expected)

    w = stirred(gated := GatedProjection(4, 3))
    normed = functional.layer_norm(x, (4,), w["norm.weight"], w["norm.bias"], eps=1e-5)
    gate, value = (normed @ w[f"{name}.weight"].T + w[f"{name}.bias"] for name in ("gate", "value"))
    assert gate.shape == (2, 6, 32)
    expected = (gate.clamp(0, 6) * value) @ w["out.weight"].T + w["out.bias"]
    torch.testing.assert_close(gated.project(x), expected)


def two_blocks(x: Tensor, w: dict[str, Tensor], *, heads: int) -> Tensor:
    """Compute dino.txt's blocks and last norm of all tokens (B, 1 + R + N, D)."""

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    for block in ("blocks.0", "blocks.1"):
        q, k, v = (
            part.unflatten(2, (heads, -1)).transpose(1, 2)
            for part in linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=2)
        )
        mixed = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(dim=3) @ v
        attended = linear(mixed.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        x = x + w[f"{block}.ls1.gamma"] * attended
        normed = norm(x, f"{block}.norm2")
        gated = functional.silu(linear(normed, f"{block}.mlp.fc1_g"))
        inner = gated * linear(normed, f"{block}.mlp.fc1_x")
        x = x + w[f"{block}.ls2.gamma"] * linear(inner, f"{block}.mlp.fc2")
    return norm(x, "norm")


def test_blocks_see_the_registers_and_are_their_equations():
    given = tokens(registers=4, width=128)
    torch.manual_seed(0)
    w = stirred(blocks := BlocksProjection(128, 128))
    assert w["blocks.0.mlp.fc1_g.weight"].shape == (384, 128)  # 341, rounded up to 64
    x = torch.cat((given.summary.unsqueeze(1), given.registers, given.parts), dim=1)
    expected = two_blocks(x, w, heads=2)
    found = blocks(given)
    torch.testing.assert_close(found.summary, expected[:, 0])
    torch.testing.assert_close(found.parts, expected[:, 5:])
    assert not torch.allclose(blocks(given._replace(registers=None)).parts, found.parts)
    narrow = TrunkBlocksProjection(128, 96)
    projected = narrow(given)
    assert projected.parts.shape == (2, 6, 96)
    assert narrow.locations(given, projected).equal(narrow.linear.project(given.parts))
    assert blocks.locations(given, found) is found.parts


@pytest.mark.parametrize("order", sorted(PROJECTIONS.built_in.keys() - {*OF_A_START}))
@pytest.mark.parametrize("aggregation", ["avg", *JOINED])
def test_each_row_trains_whole_and_compares_texts_and_locations_in_one_space(
    order, aggregation, tmp_path
):
    pooled = 64 if aggregation in JOINED else 32
    words = [f"projection.order={order}", f"image.aggregation={aggregation}"]
    words += [f"projection.width={pooled}", "image.subsampling=false"]
    words += ["text.family=open_clip", "text.init=random", "text.layers=1", "text.heads=2"]
    words += [f"text.width={pooled}", "text.model=''"]
    own = aggregation == "cls_and_avg"
    words += [f"image.family={DINO}", "image.init=random"] * own
    config = load("clippy_dino_max", scale="tiny", overrides=words)
    model = build_towers(config).train()
    images = random_pixels(2, 3, 32, 32)
    found = model(images, WORDS, dense=True)
    ids = torch.arange(2)
    contrastive_loss(
        found.image, found.text, logit_scale=model.logit_scale, text_id=ids
    ).loss.backward()
    lacking = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not lacking

    model.eval()
    given = model.tokens(images)
    locations = model.locations(given)
    assert locations.equal(model(images, None, dense=True).patches)
    alone = model(images[:1], None, dense=True)  # so ranks do not matter
    torch.testing.assert_close(alone.patches, locations[:1])
    torch.testing.assert_close(alone.image, found.image[:1])
    if aggregation == "cls_and_max":
        folder = save_folder(model, config, path=tmp_path, provenance={})
        assert weights_hash(build_model(replace(config, start=str(folder)))) == weights_hash(model)
    texts = model.embed_text_for_locations(WORDS)
    assert locations.shape[2] == texts.shape[1]
    whole = model.embed_text(WORDS, normalise=False)
    after = PROJECTIONS.row(order).after and model.image.projection is not None
    if order == "blocks":
        with pytest.raises(ValueError, match=r"order=blocks_trunk"):
            model.check_reading("sclip")
    elif not own:
        model.check_reading("sclip")
    half = whole if aggregation == "avg" or after else whole[:, 32:]
    torch.testing.assert_close(texts, functional.normalize(half, dim=1))
    if not order.startswith("blocks"):  # in these, locations see each other
        alone = given._replace(parts=given.parts[:, 3:4], mask=given.mask[:, 3:4])
        of_one = model.image.pool(alone, normalise=False)
        torch.testing.assert_close(of_one[:, -locations.shape[2] :], locations[:, 3])

    labels = Vocabulary(("dog", "grass"), prompts=(("dog",), ("grass",)), background=None)
    kept: dict[str, Tensor] = {}
    protocol = top_down_protocol("whole_square")
    widths = [
        class_embeddings(
            model, labels, protocol=protocol, kept=kept, of_locations=wanted
        ).vectors.shape[1]
        for wanted in (False, True)
    ]
    assert widths == [whole.shape[1], locations.shape[2]]
    named = {prompts_key(model, WORDS, protocol, of_locations=wanted) for wanted in (False, True)}
    assert len(named) == 1 + model.cuts_text
