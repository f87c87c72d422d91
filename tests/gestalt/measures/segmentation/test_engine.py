"""Top-down grouping of painted images, in blocks and under a threshold."""

import pytest
import torch
from torch.nn import functional

from gestalt.measures.dense.scores import cut_and_embed
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation import engine
from gestalt.measures.segmentation.engine import top_down, upsampled_argmax
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.measures.segmentation.segmented import segment_images
from gestalt.support.label_values import IGNORE
from tests.gestalt.painted import LABELS, PaintedModel, blocky_label, painted, striped_label

SQUARE = top_down_protocol("whole_square", input_size=32)


@pytest.mark.parametrize("at_once", [1, 700, 1400, 10**6])
def test_the_block_size_does_not_change_the_argmax(at_once, monkeypatch):
    monkeypatch.setattr(engine, "VALUES_AT_ONCE", at_once)
    maps = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    maps[4] = maps[2]  # a tie goes to the first, across blocks too
    index = upsampled_argmax(maps, size=(23, 31))
    wide = functional.interpolate(maps[None], size=(23, 31), mode="bilinear", align_corners=False)[
        0
    ]
    assert torch.equal(index, wide.max(dim=0).indices)
    assert 4 not in index


def test_only_scores_below_the_threshold_become_background():
    label = blocky_label(8, 8, block=4, seed=3)
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
    image = painted(blocky_label(8, 8, block=4, seed=0))
    assert not cut_and_embed(PaintedModel(), [image], protocol=SQUARE)[0].features.requires_grad


def test_segmenting_with_a_threshold_leaves_the_rest_unnamed():
    label = striped_label(8, 8, block=4, seed=5)
    protocol = top_down_protocol(
        "whole_square", input_size=32, background="threshold", threshold=0.99
    )
    mask = segment_images(PaintedModel(), [painted(label)], labels=["apple"], protocol=protocol)[
        0
    ].map
    assert set(mask.flatten().tolist()) == {0, IGNORE}
    assert (mask[label == 1] == IGNORE).sum() < (mask[label != 1] == IGNORE).sum()
