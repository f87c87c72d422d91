"""Calibration: one pass gives for every threshold the score of a separate evaluation."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.engine import TopDown, top_down
from gestalt.measures.segmentation.mean_iou import MeanIoU
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.segmentation.test_parity import WORDS, RandomModel, noise
from tests.gestalt.measures.stage import count

SMALL = {"input_size": 64, "window": 48, "stride": 32, "vocabulary": "label_set"}
RULES = {
    "threshold": top_down_protocol(
        "whole_square", input_size=64, background="threshold", threshold=0.5
    ),
    "constant": top_down_protocol("mmseg-448/talk2dino", **SMALL, threshold=0.6),
    "probability": top_down_protocol("sclip-336", **SMALL, logit_scale=3.0, threshold=0.3),
}


def found_and_labels(protocol: TopDownProtocol) -> list[tuple[TopDown, Tensor]]:
    model = RandomModel()
    prompts = class_embeddings(model, WORDS, protocol=protocol)
    labels = [
        torch.randint(8, (37, 53), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        for seed in range(2)
    ]
    labels[0][:5] = 255
    found = top_down(
        model, [noise(37, 53, seed=seed) for seed in range(2)], prompts=prompts, protocol=protocol
    )
    # right, so that thresholds matter
    half = torch.rand(37, 53, generator=torch.Generator().manual_seed(9)) < 0.5
    mixed = [
        torch.where(half, one.classes_before_threshold, label).masked_fill(label == 255, 255)
        for one, label in zip(found, labels, strict=True)
    ]
    return list(zip(found, mixed, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_a_threshold_sweep_gives_the_scores_of_separate_evaluations(rule):
    protocol = RULES[rule]
    pairs = found_and_labels(protocol)
    sweep = Sweep(protocol, classes=8, background=0)
    for one, label in pairs:
        sweep.update(one, label)
    swept = sweep.miou()
    for position in range(0, len(sweep.thresholds), 20):
        changed = dataclasses.replace(protocol, threshold=float(sweep.thresholds[position]) or 1e-9)
        metric = MeanIoU(8)
        for number, ((_, label), (one, _)) in enumerate(
            zip(pairs, found_and_labels(changed), strict=True)
        ):
            count(metric, one.prediction, label, number)
        assert swept[position] == pytest.approx(float(metric.compute().miou), abs=1e-12)


def test_the_best_threshold_has_the_highest_miou_of_the_sweep():
    sweep = Sweep(RULES["threshold"], classes=8, background=0)
    for one, label in found_and_labels(RULES["threshold"]):
        sweep.update(one, label)
    best = sweep.best()
    assert best.miou == np.nanmax(sweep.miou())
    assert sweep.at(best.threshold) == best
    assert all(sweep.at(threshold).miou <= best.miou for threshold in (-0.5, 0.0, 0.5))


@pytest.mark.parametrize(
    ("name", "why"),
    [("mmseg-448", "it has no threshold"), ("mmseg-448/groupvit", "relative to each window")],
)
def test_a_protocol_without_an_absolute_threshold_is_refused(name, why):
    with pytest.raises(ValueError, match=why):
        Sweep(top_down_protocol(name), classes=8, background=0)
