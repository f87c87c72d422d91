"""The life of a run: a killed one resumes to the identical result, whatever the number of workers;
nothing is overwritten.
"""

import json
import math
import os
import shutil
import signal

import pytest

from gestalt.measures.segmentation.callback import Segmentation
from gestalt.runs.locks import hold
from tests.gestalt.command import (
    TRAIN,
    ended_by,
    killed,
    printed,
    refused,
    result,
    run_here,
    same,
    slowed,
    succeed,
)

RESUME = f"{TRAIN} resume=last"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, succeed(TRAIN, folder=folder), result(folder)


def test_a_run_ends_with_its_metrics_as_a_table_and_as_json(whole):
    folder, done, record = whole
    assert printed("scenes/miou", done.stdout) == round(record["metrics"]["scenes/miou"], 4)
    assert record["image_init"]["requested"] == "dino"
    assert record["image_init"]["resolved"] == "random"
    assert "image.init: requested dino, resolved to random" in done.stderr
    assert record["tokens_kept"] == "32/64"
    assert record["steps"] == 8
    assert math.isfinite(record["loss"])
    assert record["config_hash"]
    assert record["provenance"]["packages"]["torch"] != "not installed"
    version = next(folder.glob("lightning_logs/clippy_dino_max/tiny/version_0"))
    assert {path.name for path in (version / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert list(version.glob("pictures/scenes/*.png"))
    assert list(version.glob("events*"))


@pytest.mark.parametrize("moment", ["step 2", "step 5", "validation 3", "write 3"])
def test_a_run_killed_at_any_moment_resumes_to_the_identical_result(whole, tmp_path, moment):
    killed(moment, TRAIN, folder=tmp_path)
    saved = list(tmp_path.glob("lightning_logs/*/*/version_0/checkpoints/last.ckpt"))
    succeed(f"{RESUME} data.workers=2" if saved else TRAIN, folder=tmp_path)
    same(result(tmp_path, version=0 if saved else 1), whole[2])
    assert not saved or not list(tmp_path.glob("**/*.partial"))


def test_a_signal_in_the_scoring_after_training_names_the_command_that_goes_on_with_it(
    cwd, monkeypatch, capsys
):
    line = f"{TRAIN} trainer.max_steps=3"
    run_here(line)
    with monkeypatch.context() as patch:
        patch.setattr(Segmentation, "on_validation_batch_end", lambda *_: os.kill(os.getpid(), 15))
        run_here(line, status=128 + 15)
    run_here(f"train {capsys.readouterr().err.rpartition(' train ')[2]}")
    same(result(cwd, version=1), result(cwd))


def test_a_run_killed_before_its_result_is_written_reports_the_same_from_its_last_checkpoint(
    whole, tmp_path
):
    shutil.copytree(whole[0] / "lightning_logs", tmp_path / "lightning_logs")
    next(tmp_path.glob("lightning_logs/*/*/version_0/result.json")).unlink()
    succeed(RESUME, folder=tmp_path)
    same(result(tmp_path), whole[2])
    assert result(tmp_path)["tokens_kept"] == whole[2]["tokens_kept"]
    # what the killed process spent
    assert result(tmp_path)["seconds"]["training"] > whole[2]["seconds"]["training"] / 2


# Muon's products are in bfloat16, slow on most CPUs: here of the image tower's narrow blocks only
@pytest.mark.parametrize("optimizer", ["lamb", "lion", "muon text.frozen=true"])
def test_with_averaged_weights_a_killed_run_resumes_to_the_identical_result(tmp_path, optimizer):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    line = f"{TRAIN} optimizer.ema=0.9 optimizer.name={optimizer} optimizer.layer_decay=0.8"
    succeed(f"{line} checkpoint_keep=2", folder=tmp_path / "whole")
    killed("step 5", f"{line} checkpoint_keep=2", folder=tmp_path / "killed")
    kept = "lightning_logs/clippy_dino_max/tiny/version_0/checkpoints/step_2.ckpt"
    succeed(f"{line} checkpoint_keep=3 resume={kept}", folder=tmp_path / "killed")
    same(result(tmp_path / "killed"), result(tmp_path / "whole"))
    resumed = [result(tmp_path / run)["resumed_from_step"] for run in ("whole", "killed")]
    assert resumed == [None, 2]
    names = {run: {*result(tmp_path / run)["checkpoints"]} for run in ("whole", "killed")}
    both = {f"{name}.ckpt" for name in ("best", "last", "step_2", "step_4", "step_6")}
    assert names == {"whole": both | {"step_8.ckpt"}, "killed": both | {"step_3.ckpt"}}


def test_ctrl_c_saves_a_checkpoint_and_prints_how_to_resume(whole, tmp_path):
    stderr = ended_by(signal.SIGINT, slowed(TRAIN, folder=tmp_path), folder=tmp_path)
    assert "resume=last" in stderr
    assert (
        "no plain run of it is finished; the newest, "
        "lightning_logs/clippy_dino_max/tiny/version_0, is at step 2 of 8"
    ) in refused("eval clippy_dino_max", folder=tmp_path)
    succeed(RESUME, folder=tmp_path)
    same(result(tmp_path), whole[2])


def test_a_signal_to_the_whole_group_saves_too_though_it_reaches_the_loading_processes(
    whole, tmp_path
):
    process = slowed(f"{TRAIN} data.workers=2", folder=tmp_path)
    stderr = ended_by(signal.SIGTERM, process, folder=tmp_path, kill=os.killpg)
    assert "stopped by SIGTERM; saved" in stderr
    succeed(RESUME, folder=tmp_path)
    same(result(tmp_path), whole[2])


def test_resuming_a_run_in_another_folder_does_not_touch_a_run_of_the_same_number(whole, tmp_path):
    succeed(f"{TRAIN} seed=7 trainer.max_steps=3", folder=tmp_path)
    mine = next(tmp_path.glob("lightning_logs/*/*/version_0/checkpoints/last.ckpt"))
    before = mine.read_bytes()
    theirs = tmp_path / "backup" / "version_0"
    shutil.copytree(next(whole[0].glob("lightning_logs/*/*/version_0")), theirs)
    (theirs / "result.json").unlink()
    succeed(f"{TRAIN} resume=backup/version_0", folder=tmp_path)
    assert mine.read_bytes() == before
    assert (
        json.loads((theirs / "result.json").read_text())["weights_sha256"]
        == whole[2]["weights_sha256"]
    )


def test_two_processes_never_train_in_one_folder(whole, tmp_path):
    shutil.copytree(whole[0] / "lightning_logs", tmp_path / "lightning_logs")
    folder = next(tmp_path.glob("lightning_logs/*/*/version_0"))
    (folder / "result.json").unlink()
    with hold(folder / ".lock", ""):
        assert "another process is training" in refused(RESUME, folder=tmp_path)


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_keeps_the_last_good_checkpoint(
    tmp_path,
):
    line = f"{TRAIN} optimizer.learning_rate=1e30 trainer.gradient_clip_val=null"
    assert "loss is nan at step" in refused(line, folder=tmp_path, status=1)
    again = refused(f"{line} resume=auto", folder=tmp_path)
    assert "version_0 stopped: loss is nan at step" in again


def test_eval_scores_all_images_where_training_scored_a_part_and_both_print_counts(whole):
    folder, trained, record = whole
    done = succeed("eval clippy_dino_max evaluation.batch_size=32", folder=folder)
    assert "scenes: 7 of 307 images\n| metric " in trained.stdout
    assert "scenes: all 307 images\n| metric " in done.stdout
    newest = max(
        folder.glob("lightning_logs/*/*/version_0/evaluations/*.json"),
        key=lambda path: int(path.stem),
    )
    for one, images in ((record, 7), (json.loads(newest.read_text()), 307)):
        assert {(entry["images"], entry["images_official"]) for entry in one["benchmarks"]} == {
            (images, 307)
        }
