"""Top-down grouping: predictions depend on neither tiles, blocks, batches nor the order of classes,
and painted images are segmented under a threshold.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from gestalt.measures.dense import winners as maps
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.engine import TopDown, top_down
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from tests.gestalt.measures.segmentation.test_parity import WORDS, RandomModel, noise
from tests.gestalt.painted import (
    LABELS,
    PaintedModel,
    Words,
    blocky_label,
    painted,
)

SMALL = {"input_size": 64, "vocabulary": "label_set"}
WINDOWS = {"window": 48, "stride": 32}
SQUARE = top_down_protocol("whole_square", input_size=32)
KINDS: dict[str, TopDownProtocol] = {
    **{
        name: top_down_protocol(name, **SMALL, **WINDOWS)
        for name in PRESETS
        if PRESETS[name].protocol.window is not None
    },
    **{
        name: top_down_protocol(name, **SMALL)
        for name in ("whole_square", "whole_short_side", "clippy-repo")
    },
    "threshold": top_down_protocol("whole_square", **SMALL, background="threshold", threshold=0.6),
    "area": top_down_protocol(
        "sclip-336", **SMALL, **WINDOWS, label_set="voc21", logit_scale=3.0, threshold=0.3
    ),
}


def segmented(
    protocol: TopDownProtocol,
    images: Sequence[Tensor],
    *,
    model: Any = None,
    words: Words = WORDS,
) -> list[TopDown]:
    model = RandomModel() if model is None else model
    return top_down(
        model, images, prompts=class_embeddings(model, words, protocol=protocol), protocol=protocol
    )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("tile", [5, 20])
def test_tiles_give_the_predictions_and_scores_of_a_single_tile(name, tile, monkeypatch):
    images = [noise(37, 53), noise(50, 41, seed=1)]
    monkeypatch.setattr(maps, "tile_side", lambda *_, **__: 1000)
    whole = segmented(KINDS[name], images)
    monkeypatch.setattr(maps, "tile_side", lambda *_, **__: tile)
    for one, other in zip(whole, segmented(KINDS[name], images), strict=True):
        assert torch.equal(one.prediction, other.prediction)
        torch.testing.assert_close(one.score, other.score, atol=1e-6, rtol=1e-5)


def test_the_block_size_does_not_change_refined_maps(monkeypatch):
    refined = KINDS["sclip-336/naclip"]
    usual = segmented(refined, [noise(37, 53)])[0]
    monkeypatch.setattr(maps, "BLOCK_VALUES", 3 * 37 * 53)
    blocks = segmented(refined, [noise(37, 53)])[0]
    assert torch.equal(usual.prediction, blocks.prediction)
    torch.testing.assert_close(usual.score, blocks.score)


@pytest.mark.parametrize("name", KINDS)
def test_leaving_classes_out_of_a_tile_does_not_change_predictions(name, monkeypatch):
    usual = segmented(KINDS[name], [noise(37, 53)])[0]
    monkeypatch.setattr(maps, "MARGIN", 1e9)  # leaves none out
    everyone = segmented(KINDS[name], [noise(37, 53)])[0]
    assert torch.equal(usual.prediction, everyone.prediction)
    torch.testing.assert_close(usual.score, everyone.score, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["mmseg-448", "dinotxt-512", "sclip-336/naclip"])
def test_scores_are_float32_under_bfloat16_autocast(name):
    usual = segmented(KINDS[name], [noise(37, 53)])[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = segmented(KINDS[name], [noise(37, 53)])[0]
    assert inside.score.dtype == torch.float32
    # RandomModel computes its features in bfloat16 there
    assert (inside.prediction == usual.prediction).float().mean() > 0.9


@pytest.mark.parametrize("name", KINDS)
def test_the_order_of_classes_does_not_matter(name):
    order = [0, 3, 1, 2, 7, 6, 5, 4]  # the background stays in front: rules know it by its place
    shuffled = Words(
        tuple(WORDS.names[index] for index in order),
        prompts=tuple(WORDS.prompts[index] for index in order),
        background=0,
    )
    usual, other = (
        segmented(KINDS[name], [noise(37, 53)], words=words)[0].prediction
        for words in (WORDS, shuffled)
    )
    assert torch.equal(usual, torch.tensor(order, dtype=torch.uint8)[other.long()])


@pytest.mark.parametrize("name", KINDS)
def test_predictions_do_not_depend_on_batching(name):
    images = [noise(37, 53), noise(50, 41, seed=1), noise(37, 53, seed=2), noise(20, 90, seed=3)]
    together = segmented(KINDS[name], images)
    for image, one in zip(images, together, strict=True):
        assert torch.equal(segmented(KINDS[name], [image])[0].prediction, one.prediction)


def test_nan_embeddings_are_refused():
    model = RandomModel()
    model.mix[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity"):
        segmented(KINDS["mmseg-448"], [noise(37, 53)], model=model)


def test_a_model_without_a_logit_scale_is_refused_where_the_protocol_takes_it():
    model = RandomModel()
    del model.logit_scale
    with pytest.raises(ValueError, match="takes the model's logit_scale, and RandomModel has none"):
        segmented(KINDS["mmseg-448/groupvit"], [noise(37, 53)], model=model)


def test_only_scores_below_the_threshold_become_background():
    label = blocky_label(8, 8, seed=3)
    for threshold in (1.0, -1.0):
        protocol = top_down_protocol(
            "whole_square", input_size=32, background="threshold", threshold=threshold
        )
        prompts = class_embeddings(PaintedModel(), LABELS, protocol=protocol)
        mask = top_down(
            PaintedModel(), [painted(label)], prompts=prompts, protocol=protocol, sizes=[(8, 8)]
        )[0].prediction
        truth = label[::4, ::4]
        expected = truth if threshold == 1 else truth.clamp_min(1)
        assert torch.equal(mask, expected)


def test_no_gradient_reaches_the_tower():
    image = painted(blocky_label(8, 8, seed=0))
    assert not cut_and_embed(PaintedModel(), [image], protocol=SQUARE)[0].features.requires_grad
