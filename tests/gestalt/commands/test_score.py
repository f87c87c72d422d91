"""Scoring label maps of other systems, and our own maps written and read again, from the command
line.
"""

import json

import pytest

from gestalt.results.result import read_result
from tests.data_modules.fakes.masks import draw_voc
from tests.gestalt.command import TINY, printed, refused, succeed

pytestmark = pytest.mark.slow


def test_maps_of_an_evaluation_reproduce_its_score_and_are_not_overwritten(tmp_path):
    train = f"train clippy_dino_max {TINY} trainer.max_steps=2 evaluation.benchmarks=[scenes]"
    succeed(train, folder=tmp_path)
    write = "eval lightning_logs/clippy_dino_max evaluation.limit=5 --predictions maps"
    succeed(write, folder=tmp_path)
    assert sorted(path.name for path in (tmp_path / "maps/scenes").iterdir()) == [
        *(f"0000{n}.png" for n in range(5)),
        "predictions.json",
    ]
    score = "score maps --bench scenes data.recipe=prototype evaluation.limit=5 --output scored"
    succeed(score, folder=tmp_path)
    (path,) = tmp_path.glob("lightning_logs/clippy_dino_max/tiny/version_0/evaluations/0.json")
    ours, theirs = read_result(path), read_result(tmp_path / "scored/evaluations/0.json")
    for key, value in theirs.record["metrics"].items():
        assert ours.record["metrics"][key] == value
    assert (ours.arrays("scenes")["counts"] == theirs.arrays("scenes")["counts"]).all()
    for key in ("iou", "ignored_pixels", "best_images", "worst_images", "constant_class"):
        assert theirs.entry("scenes/miou")[key] == ours.entry("scenes/miou")[key]
    stated = theirs.record["predictions"]["stated"]
    assert stated["weights_sha256"] == ours.record["weights_sha256"]
    assert stated["protocol"] == ours.entry("scenes/miou")["protocol"]
    assert (
        "--predictions maps: maps/scenes exists and is not an empty folder; name another, or "
        "remove it"
    ) in refused(write, folder=tmp_path)


def test_maps_of_another_system_are_recorded_compared_and_reported(tmp_path):
    draw_voc(tmp_path)
    masks = "VOCdevkit/VOC2012/SegmentationClass"
    words = "--bench pascal_voc benchmark_root=. benchmark_subset=true data.workers=1"
    facts = "--name 'An Oracle' --note 'protocol=read off the truth' --values truth"
    done = succeed(f"score {masks} {words} {facts}", folder=tmp_path)
    assert printed("pascal_voc/miou", done.stdout) == 1
    path = tmp_path / "lightning_logs/predictions/An_Oracle/evaluations/0.json"
    record = json.loads(path.read_text())
    assert record["predictions"] | {"sha256": ""} == {
        "folder": masks,
        "files": 3,
        "sha256": "",
        "measure": "segmentation",
        "values": "truth",
        "suffix": "",
        "notes": {"protocol": "read off the truth"},
        "stated": None,
    }
    done = succeed(f"compare {path} {path}", folder=tmp_path)
    assert "| predictions An Oracle evaluation 0 | 1.000 |" in done.stdout
    assert "of 21 classes are in fewer than two of the 3 images." in done.stdout
    objects = masks.replace("Class", "Object")
    line = f"score {objects} {words} --measure grouping --output groups"
    assert printed("pascal_voc/jaccard", succeed(line, folder=tmp_path).stdout) == 1
    succeed(f"report {path} groups/evaluations/0.json", folder=tmp_path)
    assert "Their maker states protocol: read off the truth." in " ".join(
        (tmp_path / "report.html").read_text().split()
    )
