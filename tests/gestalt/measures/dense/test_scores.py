"""The engine's laws: windows cover, and predictions depend on neither tiles, blocks, batches nor
the order of classes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from gestalt.measures.dense import winners as maps
from gestalt.measures.dense.placement import (
    Axis,
    canvas_matrix,
    label_bands,
    window_starts,
)
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.dense.scores import pamr
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.engine import TopDown, top_down
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from tests.gestalt.measures.segmentation.test_parity import WORDS, RandomModel, noise
from tests.gestalt.painted import Words

SMALL = {"input_size": 64, "vocabulary": "label_set"}
WINDOWS = {"window": 48, "stride": 32}
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


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [(448, 448, 224), (597, 448, 224), (100, 224, 112), (561, 224, 112)],
)
def test_windows_cover_every_pixel_and_stay_inside(size, window, stride):
    starts = window_starts(size, window=window, stride=stride)
    covered = {pixel for start in starts for pixel in range(start, min(start + window, size))}
    assert covered == set(range(size))
    assert starts[0] == 0
    assert max(starts) + min(window, size) == size
    assert all(later - earlier <= stride for earlier, later in pairwise(starts))


@pytest.mark.parametrize("upsample", ["bilinear", "bilinear_aligned", "nearest"])
def test_a_pixel_is_a_mean_of_its_cells(upsample):
    axis = Axis(53, canvas=73, starts=(0, 16, 25), side=48, cells=3, upsample=upsample)
    matrix = canvas_matrix(axis)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(73, dtype=torch.float64))
    for band in label_bands(axis, 20, torch.device("cpu")):
        torch.testing.assert_close(band.weights.sum(dim=1), torch.ones(len(band.weights)))


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


def test_pamr_keeps_constant_maps_and_sharpens_edges():
    image = torch.zeros(3, 20, 20)
    image[:, :, 10:] = 255
    flat = torch.full((1, 20, 20), 0.3)
    rings = top_down_protocol("mmseg-448", refinement_dilations=(1, 2))
    torch.testing.assert_close(pamr(image, flat, rings), flat)
    blurred = torch.linspace(0, 1, 20).expand(1, 20, 20)
    sharp = pamr(image, blurred, rings)[0]
    assert (sharp[:, 10] - sharp[:, 9]).min() > 3 * (1 / 19)
