"""Protocols and thresholds from the command line, on a checkpoint of a few steps."""

import hashlib
import json

import pytest

from tests.gestalt.command import gestalt

pytestmark = pytest.mark.slow

RUN = "lightning_logs/clippy_dino_max/tiny/version_0"
TCL = (
    "evaluation.protocol=mmseg-448/tcl",
    "evaluation.refinement=none",
    "evaluation.limit=3",
    "trainer.enable_progress_bar=false",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = gestalt(
        "train",
        "clippy_dino_max",
        "--scale",
        "tiny",
        "trainer.max_steps=2",
        "trainer.enable_progress_bar=false",
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder


def record_of(folder, kind):
    (path,) = folder.glob(f"lightning_logs/*/*/version_0/{kind}")
    return json.loads(path.read_text())


def newest_of(folder, kind):
    return max(
        folder.glob(f"lightning_logs/*/*/version_0/{kind}/*.json"), key=lambda file: int(file.stem)
    )


def newest_evaluation(folder):
    return json.loads(newest_of(folder, "evaluations").read_text())


def test_a_calibrated_threshold_is_recorded_with_its_split_and_reproduces_its_score(trained):
    done = gestalt("eval", RUN, "--calibrate", "scenes", *TCL, folder=trained)
    assert done.returncode == 0, done.stderr
    record = record_of(trained, "calibrations/0.json")
    assert record["chosen_on"]["split"] == "tune"
    assert record["oracle"]["miou"] >= record["reported_on"]["miou"]
    assert f"gap {record['gap_to_oracle']:.4f}" in done.stdout
    scored = gestalt(
        "eval", RUN, *TCL, f"evaluation.threshold={record['threshold']}", folder=trained
    )
    assert f"scenes/miou {record['reported_on']['miou']:.4f}" in scored.stdout, scored.stderr
    (benchmark,) = (
        one for one in newest_evaluation(trained)["benchmarks"] if one["measure"] == "segmentation"
    )
    assert benchmark["protocol"]["name"] == "mmseg-448/tcl"
    assert benchmark["protocol"]["threshold"] == record["threshold"]
    assert "its decoder, which makes a grid four times as fine" in benchmark["protocol"]["left_out"]
    assert benchmark["vocabulary"] == {"list": "label_set", "why": "tcl names no classes of scenes"}
    assert benchmark["calibration"] is None  # a number by hand


def test_scoring_with_a_calibration_records_where_its_threshold_is_from(trained):
    done = gestalt("eval", RUN, "--calibrate", "scenes", *TCL, folder=trained)
    assert done.returncode == 0, done.stderr
    path = newest_of(trained, "calibrations")
    word = f"evaluation.calibration={path.relative_to(trained)}"
    assert f"score with it, under the same settings: {word}\n" in done.stdout
    record = json.loads(path.read_text())
    scored = gestalt("eval", RUN, *TCL, word, folder=trained)
    assert f"scenes/miou {record['reported_on']['miou']:.4f}" in scored.stdout, scored.stderr
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
    assert (said["image_set"], said["split"], said["images"], said["images_official"]) == (
        "scenes",
        "tune",
        3,
        307,
    )
    page = gestalt("report", str(newest.relative_to(trained)), folder=trained)
    assert page.returncode == 0, page.stderr
    assert (
        "threshold calibrated on 3 of 307 images of tune" in (trained / "report.html").read_text()
    )
    other = trained / "other_weights.json"
    other.write_text(json.dumps({**record, "weights_sha256": "abc"}))
    words = (
        "eval",
        RUN,
        f"evaluation.calibration={path.relative_to(trained)}",
        "evaluation.limit=3",
    )
    assert "choose evaluation.protocol=mmseg-448/tcl" in gestalt(*words, folder=trained).stderr
    warned = gestalt("eval", RUN, *TCL, f"evaluation.calibration={other.name}", folder=trained)
    assert (
        "scenes: its threshold was calibrated with other weights (other_weights.json)"
        in warned.stderr
    )


def test_a_threshold_is_calibrated_under_a_correction_by_unlabelled_images(trained):
    words = (
        "evaluation.protocol=whole_square",
        "evaluation.background=threshold",
        "evaluation.threshold=0.1",
        "evaluation.debias=largest",
        "evaluation.limit=7",
    )
    done = gestalt("eval", RUN, "--calibrate", "scenes", *words, folder=trained)
    assert done.returncode == 0, done.stderr
    record = json.loads(newest_of(trained, "calibrations").read_text())
    assert record["protocol"]["fields"]["debias"] == "largest"


def test_windows_have_the_same_counts_on_one_two_and_three_ranks(trained, monkeypatch):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "3")
    found = []
    for ranks in (1, 2, 3):
        words = (
            f"trainer.devices={ranks}",
            "trainer.strategy=ddp" if ranks > 1 else "trainer.strategy=auto",
            "evaluation.limit=7",
        )
        words += (
            "evaluation.protocol=sclip-336",
            "evaluation.batch_size=2",
            "trainer.enable_progress_bar=false",
        )
        before = set(trained.glob("lightning_logs/*/*/version_0/evaluations/*.json"))
        done = gestalt("eval", RUN, *words, folder=trained, threads=None if ranks == 1 else 1)
        assert done.returncode == 0, done.stderr
        (path,) = set(trained.glob("lightning_logs/*/*/version_0/evaluations/*.json")) - before
        found.append(
            [benchmark.get("counts") for benchmark in json.loads(path.read_text())["benchmarks"]]
        )
    assert any(found[0])
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("eval", RUN, "evaluation.refinement=crf", "evaluation.protocol=mmseg-448/tcl"),
            "does not go with scores=sigmoid",
        ),
        (
            ("eval", RUN, "--calibrate", "scenes"),
            "it has no threshold; choose evaluation.protocol=",
        ),
        (
            ("eval", RUN, "--calibrate", "scenes", "--split", "val"),
            "choose a split that shares none",
        ),
    ],
)
def test_invalid_scoring_and_calibration_are_refused_in_one_line(trained, words, message):
    done = gestalt(*words, folder=trained)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
