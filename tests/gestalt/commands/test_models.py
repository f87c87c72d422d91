"""Every command takes every kind of model: runs, checkpoints, exported folders and other libraries'
models.
"""

import json

import pytest

from gestalt.encoders.weights import weights_hash
from gestalt.runs.score import open_target
from gestalt.runs.sweep import calibrate, sweep_protocols
from tests.gestalt.command import run_here
from tests.gestalt.test_api import saved_timm
from tests.gestalt.tiny_model import RUN, export, save_photo, save_run, tiny

SEGMENT = "segment photo.png --labels 'dog, grass'"
TCL = [
    "evaluation.protocol=mmseg-448/tcl",
    "evaluation.refinement=none",
    "evaluation.limit=2",
    "evaluation.benchmarks=[scenes]",
]


pytestmark = pytest.mark.usefixtures("cwd")


@pytest.fixture
def targets(tmp_path):
    """A run, its checkpoint and its export, which are one model."""
    save_run(tmp_path)
    export(tmp_path / "exported")
    return ["clippy_dino_max", str(RUN / "checkpoints" / "last.ckpt"), "exported"]


def test_results_of_pictures_name_the_run_its_step_and_its_weights(targets, tmp_path, capsys):
    save_photo(tmp_path / "photo.png")
    words = "photo.png --model clippy_dino_max --html page.html --to"
    weights = weights_hash(tiny()[0])
    for command, kind in (("segment --labels 'dog, grass'", "labels"), ("group", "groups")):
        run_here(f"{command} {words} {kind}")
        assert capsys.readouterr().err.startswith(f"model: {RUN}, step 8 of 8\n")
        summary = json.loads((tmp_path / kind / f"{kind}.json").read_text())
        facts = [
            summary[key] for key in ("model", "run", "steps", "steps_planned", "weights_sha256")
        ]
        assert facts == ["clippy_dino_max", str(RUN), 8, 8, weights]
        assert (
            f"clippy_dino_max/small/version_0: step 8 of 8, weights SHA-256 {weights}."
            in (tmp_path / "page.html").read_text()
        )


def test_a_model_of_another_library_is_announced_by_its_name(tmp_path, capsys):
    saved_timm(tmp_path / "vit")
    save_photo(tmp_path / "photo.png")
    run_here("group photo.png --model timm:vit --to out")
    assert capsys.readouterr().err == "model: timm:vit\n"
    summary = json.loads((tmp_path / "out" / "groups.json").read_text())
    assert summary["model"] == "timm:vit"
    assert len(summary["weights_sha256"]) == 64
    assert "run" not in summary


def test_a_threshold_is_calibrated_for_an_exported_folder_as_for_its_run(targets, tmp_path):
    records = [
        json.loads(
            calibrate(
                open_target(target, overrides=TCL, output=str(tmp_path / "records")),
                benchmark="scenes",
                split=None,
            ).read_text()
        )
        for target in (targets[0], targets[2])
    ]
    assert [record.pop("checkpoint") for record in records] == [targets[1], "exported"]
    assert [records[0].pop(key) for key in ("run", "steps", "steps_planned")] == [str(RUN), 8, 8]
    for record in records:
        record.pop("provenance")
    assert records[0] == records[1]


def test_a_root_that_no_benchmark_reads_is_refused(targets, capsys):
    for words, unread in (("", True), ("evaluation.benchmarks=[scenes,pascal_voc]", False)):
        run_here(f"eval {targets[2]} benchmark_root=DIR {words}", status=2)
        said = "benchmark_root=DIR: the benchmarks scored, scenes, do not read it; name others"
        assert (said in capsys.readouterr().err) == unread


def test_a_vision_only_model_is_refused_where_text_is_needed(tmp_path):
    saved_timm(tmp_path / "vit")
    target = f"timm:{tmp_path / 'vit'}"
    opened = open_target(target, overrides=TCL)
    with pytest.raises(ValueError, match="is vision-only and has no names for classes"):
        calibrate(opened, benchmark="scenes", split=None)
    with pytest.raises(ValueError, match="is vision-only and has no names for classes"):
        sweep_protocols(opened, ["whole_square"], [])
