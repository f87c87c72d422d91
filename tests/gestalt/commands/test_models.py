"""Every command takes every kind of model: runs, checkpoints, exported folders and other libraries' models."""

import json

import pytest
from PIL import Image

from gestalt.__main__ import main
from gestalt.commands.calibrate import calibrate
from gestalt.commands.vocabulary import vocabulary
from tests.gestalt.command import gestalt
from tests.gestalt.test_api import saved_timm
from tests.gestalt.tiny_model import RUN, export, save_photo, save_run

TCL = ["evaluation.protocol=mmseg-448/tcl", "evaluation.refinement=none", "evaluation.limit=2"]


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def targets(tmp_path):
    """A run, its checkpoint and its export, which are one model."""
    save_run(tmp_path)
    export(tmp_path / "exported")
    return ["clippy_dino_max", str(RUN / "checkpoints" / "last.ckpt"), "exported"]


def test_segment_gives_the_same_picture_for_every_kind_of_target(targets, tmp_path, capsys):
    save_photo(tmp_path / "photo.png")
    for number, (flag, target) in enumerate(zip(("--ckpt", "--model", "--model"), targets, strict=True)):
        assert main(["segment", "photo.png", "--labels", "dog, grass", flag, target, "--output", f"{number}.png"]) == 0
    assert capsys.readouterr().out.split() == ["0.png", "1.png", "2.png"]
    pictures = [Image.open(tmp_path / f"{number}.png").tobytes() for number in range(3)]
    assert pictures[0] == pictures[1] == pictures[2]


def test_a_threshold_is_calibrated_for_an_exported_folder_as_for_its_run(targets, tmp_path):
    records = [
        json.loads(calibrate(target, benchmark="scenes", split=None, overrides=TCL, output=str(tmp_path / "records")).read_text())
        for target in (targets[0], targets[2])
    ]
    assert [record.pop("checkpoint") for record in records] == [targets[1], "exported"]
    for record in records:
        record.pop("provenance")
    assert records[0] == records[1]


def test_near_ties_are_found_for_a_run_and_for_an_exported_folder(targets):
    tables = [vocabulary(list_names=["sclip"], label_sets=["voc21"], target=target, cosine=0.9) for target in (targets[0], targets[2])]
    assert tables[0] == tables[1]
    assert "near tie" in tables[0][0]


def test_a_vision_only_model_is_refused_where_text_is_needed(tmp_path):
    saved_timm(tmp_path / "vit")
    target = f"timm:{tmp_path / 'vit'}"
    save_photo(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="it is vision-only and has no text tower"):
        vocabulary(list_names=["sclip"], label_sets=["voc21"], target=target, cosine=0.9)
    with pytest.raises(ValueError, match="is vision-only and has no names for classes"):
        calibrate(target, benchmark="scenes", split=None, overrides=TCL)
    assert main(["segment", "photo.png", "--labels", "dog, grass", "--model", target]) == 2


@pytest.mark.slow
def test_an_exported_folder_has_the_same_metrics_as_its_run(targets, tmp_path):
    words = ("evaluation.limit=3", "trainer.enable_progress_bar=false")
    for target in (targets[0], targets[2]):
        done = gestalt("eval", target, *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    run, folder = (
        json.loads((tmp_path / place / "evaluations" / "0.json").read_text()) for place in (RUN, "lightning_logs/exported/exported")
    )
    assert folder["checkpoint"] == "exported"
    for key in ("metrics", "weights_sha256", "config_hash"):
        assert run[key] == folder[key]
