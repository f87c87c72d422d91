"""Scoring label maps of other systems, and our own maps written and read again, from the command
line.
"""

import json

import pytest

from gestalt.results.reading import read_result
from tests.data_modules.fakes.masks import draw_voc
from tests.gestalt.command import gestalt

pytestmark = pytest.mark.slow

BAR = "trainer.enable_progress_bar=false"


def test_maps_of_an_evaluation_reproduce_its_score_and_are_not_overwritten(tmp_path):
    train = (
        "train",
        "clippy_dino_max",
        "--scale",
        "tiny",
        "trainer.max_steps=2",
        "evaluation.benchmarks=[scenes]",
        BAR,
    )
    assert gestalt(*train, folder=tmp_path).returncode == 0
    words = (
        "eval",
        "lightning_logs/clippy_dino_max",
        "evaluation.limit=5",
        "--predictions",
        "maps",
        BAR,
    )
    done = gestalt(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "maps/scenes").iterdir()) == [
        *(f"0000{n}.png" for n in range(5)),
        "predictions.json",
    ]
    score = (
        "score",
        "maps",
        "--bench",
        "scenes",
        "data.recipe=prototype",
        "evaluation.limit=5",
        "--output",
        "scored",
        BAR,
    )
    done = gestalt(*score, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("lightning_logs/clippy_dino_max/tiny/version_0/evaluations/0.json")
    ours, theirs = read_result(path), read_result(tmp_path / "scored/evaluations/0.json")
    for key, value in theirs.record["metrics"].items():
        assert ours.record["metrics"][key] == value
    assert (ours.arrays("scenes")["counts"] == theirs.arrays("scenes")["counts"]).all()
    stated = theirs.record["predictions"]["stated"]
    assert stated["weights_sha256"] == ours.record["weights_sha256"]
    assert stated["protocol"] == ours.entry("scenes/miou")["protocol"]
    refused = gestalt(*words, folder=tmp_path)
    assert refused.returncode == 2
    assert (
        "--predictions maps: maps/scenes exists and is not an empty folder; name another, or "
        "remove it" in refused.stderr
    )


def test_maps_of_another_system_are_recorded_compared_and_reported(tmp_path):
    draw_voc(tmp_path)
    masks = "VOCdevkit/VOC2012/SegmentationClass"
    words = (
        "--bench",
        "pascal_voc",
        "benchmark_root=.",
        "benchmark_subset=true",
        "data.workers=1",
        BAR,
    )
    facts = ("--name", "An Oracle", "--note", "protocol=read off the truth", "--values", "truth")
    done = gestalt("score", masks, *words, *facts, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pascal_voc/miou 1.0000" in done.stdout
    path = tmp_path / "lightning_logs/predictions/An_Oracle/evaluations/0.json"
    record = json.loads(path.read_text())
    assert record["predictions"] | {"sha256": ""} == {
        "folder": masks,
        "files": 3,
        "sha256": "",
        "measure": "segmentation",
        "values": "truth",
        "suffix": "",
        **{"notes": {"protocol": "read off the truth"}, "stated": None},
    }
    done = gestalt("compare", str(path), str(path), folder=tmp_path)
    assert "| predictions An Oracle evaluation 0 | 1.000 |" in done.stdout, done.stderr
    assert "of 21 classes are in fewer than two of the 3 images." in done.stdout
    objects = (
        "VOCdevkit/VOC2012/SegmentationObject",
        *words,
        "--measure",
        "grouping",
        "--output",
        "groups",
    )
    done = gestalt("score", *objects, folder=tmp_path)
    assert "pascal_voc/jaccard 1.0000" in done.stdout, done.stderr
    done = gestalt("report", str(path), "groups/evaluations/0.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Their maker states protocol: read off the truth." in " ".join(
        (tmp_path / "report.html").read_text().split()
    )
