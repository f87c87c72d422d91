"""A calibrated threshold is used for its benchmark, under the protocol and classes that it was
chosen for, and refused elsewhere.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gestalt.config.loading import load
from gestalt.measures.context import Context
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.configured import protocol_fields
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.runs.evaluation import build_evaluation, build_image_sets
from gestalt.support.typed import ConfigError

TALK = "evaluation.protocol=mmseg-448/talk2dino"


def scorer_of(*words: str) -> Segmentation:
    callbacks = build_evaluation(load("clippy_dino_max", scale="tiny", overrides=[TALK, *words]))[1]
    (found,) = (one for one in callbacks if isinstance(one, Segmentation))
    return found


def written(path: Path, **changes: Any) -> str:
    """A calibration of scenes' threshold under Talk2DINO's protocol, as
    ``evaluation.calibration=FILE``.
    """
    record = {
        **{
            "benchmark": "scenes",
            "threshold": 0.37,
            "label_set": scorer_of().labels.digest(),
            "weights_sha256": "abc",
        },
        "chosen_on": {
            "split": "tune",
            "image_set": "scenes",
            "images": 3,
            "images_official": 307,
            "miou": 0.2,
        },
        "protocol": {
            "fields": protocol_fields(top_down_protocol("mmseg-448/talk2dino", label_set="scenes"))
        },
    }
    path.write_text(json.dumps({**record, **changes}))
    return f"evaluation.calibration={path}"


def test_the_calibrated_benchmark_uses_the_threshold_and_records_its_source(tmp_path):
    found = scorer_of(written(tmp_path / "scenes.json"))
    assert found.protocol.threshold == 0.37
    assert found.calibration is not None
    assert found.calibration["file"] == str(tmp_path / "scenes.json")
    assert (
        found.calibration["split"],
        found.calibration["images"],
        found.calibration["weights_sha256"],
    ) == ("tune", 3, "abc")
    usual = scorer_of()
    assert (usual.protocol.threshold, usual.calibration) == (0.55, None)


def test_another_benchmark_keeps_its_own_threshold(tmp_path):
    word = written(tmp_path / "voc.json", benchmark="pascal_voc")
    words = [TALK, word, "evaluation.benchmarks=[scenes,pascal_voc]", f"benchmark_root={tmp_path}"]
    config = load("clippy_dino_max", scale="tiny", overrides=words)
    image_set = build_image_sets(load("clippy_dino_max", scale="tiny"))["scenes"]
    scorer = Segmentation(Context(config.evaluation, BENCHMARKS["scenes"], image_set, size=32))
    assert isinstance(scorer, Segmentation)
    assert (scorer.protocol.threshold, scorer.calibration) == (0.55, None)


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        (
            {},
            ["evaluation.refinement=pamr"],
            "refinement was 'none', is now 'pamr'; score with the calibrated settings, or",
        ),
        ({}, ["data.recipe=scenes_v1"], "label_set was '[0-9a-f]+', is now '[0-9a-f]+'"),
        (
            {},
            ["evaluation.threshold=0.2"],
            "evaluation.threshold=0.2 is another threshold; give only one of the two",
        ),
        (
            {},
            ["evaluation.split=tune"],
            "it was chosen on split tune of scenes, which shares images with split tune",
        ),
        (
            {},
            ["evaluation.benchmarks=[scenes_matching]"],
            "it is for benchmark scenes, but evaluation.benchmarks=.scenes_matching.; add it",
        ),
        ({"threshold": 1.5}, [], "threshold is 1.5, it is in"),
        (
            {},
            ["evaluation.protocol=null"],
            "scenes would be scored under whole_square; choose "
            "evaluation.protocol=mmseg-448/talk2dino",
        ),
        (
            {"protocol": {"fields": {"name": "whole_square"}}},
            [
                "evaluation.benchmarks=[scenes,pascal_voc]",
                "evaluation.protocol=null",
                "evaluation.background=threshold",
                "benchmark_root=.",
            ],
            "benchmark pascal_voc: protocol whole_square: background=threshold",
        ),
    ],
)
def test_a_calibration_that_does_not_match_the_configuration_is_refused(
    tmp_path, changes, words, message
):
    word = written(tmp_path / "scenes.json", **changes)
    with pytest.raises(ConfigError, match=message):
        scorer_of(word, *words)


def test_a_cosine_threshold_can_be_calibrated(tmp_path):
    cosine = top_down_protocol(
        "whole_square", label_set="scenes", tower_size=32, background="threshold", threshold=0.1
    )
    word = written(tmp_path / "scenes.json", protocol={"fields": protocol_fields(cosine)})
    found = scorer_of(word, "evaluation.protocol=null", "evaluation.background=threshold")
    assert found.protocol.threshold == 0.37
