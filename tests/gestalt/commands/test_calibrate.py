"""Protocols and thresholds from the command line, on a checkpoint of a few steps."""

import hashlib
import json

import pytest

from tests.gestalt.command import TRAIN, printed, refused, succeed

pytestmark = pytest.mark.slow

EVAL = "eval lightning_logs/clippy_dino_max/tiny/version_0 trainer.enable_progress_bar=false"
SETTINGS = "evaluation.protocol=mmseg-448/tcl evaluation.refinement=none evaluation.limit=3"
TCL = f"{EVAL} {SETTINGS}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    succeed(TRAIN, "trainer.max_steps=2", folder=folder)
    return folder


def newest_of(folder, kind):
    return max(
        folder.glob(f"lightning_logs/*/*/version_0/{kind}/*.json"), key=lambda file: int(file.stem)
    )


def newest_evaluation(folder):
    return json.loads(newest_of(folder, "evaluations").read_text())


def test_a_calibrated_threshold_is_recorded_reproduces_its_score_and_is_named_by_what_uses_it(
    trained,
):
    done = succeed(f"{TCL} --calibrate scenes", folder=trained)
    record = json.loads(newest_of(trained, "calibrations").read_text())
    assert record["chosen_on"]["split"] == "tune"
    assert record["oracle"]["miou"] >= record["reported_on"]["miou"]
    assert f"gap {record['gap_to_oracle']:.4f}" in done.stdout
    scored = succeed(TCL, f"evaluation.threshold={record['threshold']}", folder=trained)
    assert printed("scenes/miou", scored.stdout) == round(record["reported_on"]["miou"], 4)
    (benchmark,) = (
        one for one in newest_evaluation(trained)["benchmarks"] if one["measure"] == "segmentation"
    )
    assert benchmark["vocabulary"] == {"list": "label_set", "why": "tcl names no classes of scenes"}
    assert benchmark["calibration"] is None  # a number by hand
    path = newest_of(trained, "calibrations")
    word = f"evaluation.calibration={path.relative_to(trained)}"
    assert f"score with it, under the same settings: {word}\n" in done.stdout
    scored = succeed(TCL, word, folder=trained)
    assert printed("scenes/miou", scored.stdout) == round(record["reported_on"]["miou"], 4)
    assert "other weights" not in scored.stderr
    newest = newest_of(trained, "evaluations")
    (entry,) = (
        one for one in newest_evaluation(trained)["benchmarks"] if one["measure"] == "segmentation"
    )
    assert entry["protocol"]["threshold"] == record["threshold"]
    said = entry["calibration"]
    assert (said["file"], said["sha256"]) == (
        str(path.relative_to(trained)),
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    succeed("report", str(newest.relative_to(trained)), folder=trained)
    assert (
        "threshold calibrated on 3 of 307 images of tune" in (trained / "report.html").read_text()
    )
    other = trained / "other_weights.json"
    other.write_text(json.dumps({**record, "weights_sha256": "abc"}))
    warned = succeed(TCL, f"evaluation.calibration={other.name}", folder=trained)
    assert (
        "scenes: its threshold was calibrated with other weights (other_weights.json)"
        in warned.stderr
    )


def test_a_threshold_is_calibrated_under_a_correction_by_unlabelled_images(trained):
    succeed(
        f"{EVAL} --calibrate scenes evaluation.protocol=whole_square evaluation.threshold=0.1",
        *("evaluation.background=threshold", "evaluation.debias=largest", "evaluation.limit=7"),
        folder=trained,
    )
    record = json.loads(newest_of(trained, "calibrations").read_text())
    assert record["protocol"]["fields"]["debias"] == "largest"


def test_a_calibration_on_the_reported_images_is_refused(trained):
    words = f"{EVAL} --calibrate scenes --split val"
    assert "choose a split that shares none" in refused(words, folder=trained)
