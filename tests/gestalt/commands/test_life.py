"""The life of a run: a killed one resumes to the identical result, whatever the number of workers;
nothing is overwritten.
"""

import json
import math
import os
import shutil
import signal

import pytest

from gestalt.runs.locks import hold
from tests.gestalt.command import KILL, ended_by, gestalt, result, same, slowed

TRAIN = (
    "train",
    "clippy_dino_max",
    "--scale",
    "tiny",
    "checkpoint_every_steps=3",
    "trainer.enable_progress_bar=false",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = gestalt(*TRAIN, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder, done, result(folder)


def test_a_run_ends_with_its_metrics_as_lines_and_as_json(whole):
    folder, done, record = whole
    assert "scenes/miou " in done.stdout
    assert record["metrics"]["scenes/miou"] == pytest.approx(
        float(done.stdout.split("scenes/miou ")[1].split()[0]), abs=1e-4
    )
    assert record["image_init"]["asked"] == "dino"
    assert record["image_init"]["used"] == "random"
    assert "image.init: asked dino, used random" in done.stderr
    assert record["tokens_kept"] == "32/64"
    assert record["steps"] == 8
    assert math.isfinite(record["loss"])
    assert record["config_hash"]
    assert record["provenance"]["packages"]["torch"] != "not installed"
    version = next(folder.glob("lightning_logs/clippy_dino_max/tiny/version_0"))
    assert {path.name for path in (version / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert list(version.glob("pictures/scenes/*.png"))
    assert list(version.glob("events*"))


@pytest.mark.parametrize(
    ("moment", "number"), [("step", 2), ("step", 5), ("validation", 3), ("write", 3)]
)
def test_a_run_killed_at_any_moment_resumes_to_the_identical_result(
    whole, tmp_path, moment, number
):
    killed = gestalt(moment, str(number), *TRAIN, folder=tmp_path, program=(KILL,))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    saved = list(tmp_path.glob("lightning_logs/*/*/version_0/checkpoints/last.ckpt"))
    words = ("resume=last", "data.workers=2") if saved else ()
    resumed = gestalt(*TRAIN, *words, folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same(result(tmp_path, version=0 if saved else 1), whole[2])
    assert not saved or not list(tmp_path.glob("**/*.partial"))


def test_a_run_that_max_steps_ends_within_an_epoch_is_scored_at_its_last_step(tmp_path):
    done = gestalt(*TRAIN, "trainer.max_steps=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = result(tmp_path)
    assert record["steps"] == 3
    evaluated = gestalt(
        "eval",
        "lightning_logs/clippy_dino_max",
        "evaluation.limit=7",
        "trainer.enable_progress_bar=false",
        folder=tmp_path,
    )
    assert f"scenes/miou {record['metrics']['scenes/miou']:.4f}" in evaluated.stdout
    assert record["best"]["value"] == pytest.approx(record["metrics"]["scenes/miou"])
    last, best = (
        next(tmp_path.glob(f"lightning_logs/*/*/*/checkpoints/{name}.ckpt"))
        for name in ("last", "best")
    )
    assert best.read_bytes() == last.read_bytes()


def test_a_run_killed_before_its_result_is_written_reports_the_same_from_its_last_checkpoint(
    whole, tmp_path
):
    shutil.copytree(whole[0] / "lightning_logs", tmp_path / "lightning_logs")
    next(tmp_path.glob("lightning_logs/*/*/version_0/result.json")).unlink()
    done = gestalt(*TRAIN, "resume=last", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    same(result(tmp_path), whole[2])
    assert result(tmp_path)["tokens_kept"] == whole[2]["tokens_kept"]
    # what the killed process spent
    assert result(tmp_path)["seconds"]["training"] > whole[2]["seconds"]["training"] / 2


def test_with_averaged_weights_a_killed_run_resumes_to_the_identical_result(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    words = (*TRAIN, "optimizer.ema=0.9", "optimizer.name=lamb", "optimizer.layer_decay=0.8")
    assert gestalt(*words, folder=tmp_path / "whole").returncode == 0
    assert (
        gestalt("step", "5", *words, folder=tmp_path / "killed", program=(KILL,)).returncode
        == -signal.SIGKILL
    )
    resumed = gestalt(*words, "resume=last", folder=tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    same(result(tmp_path / "killed"), result(tmp_path / "whole"))


def test_ctrl_c_saves_a_checkpoint_and_prints_how_to_resume(whole, tmp_path):
    stderr = ended_by(signal.SIGINT, slowed(*TRAIN, folder=tmp_path), folder=tmp_path)
    assert "resume=last" in stderr
    by_name = gestalt("eval", "clippy_dino_max", folder=tmp_path)
    assert (
        "no plain run of it is finished; the newest, "
        "lightning_logs/clippy_dino_max/tiny/version_0, is at step 2 of 8" in by_name.stderr
    )
    resumed = gestalt(*TRAIN, "resume=last", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same(result(tmp_path), whole[2])


def test_a_signal_to_the_whole_group_saves_too_though_it_reaches_the_loading_processes(
    whole, tmp_path
):
    process = slowed(*TRAIN, "data.workers=2", folder=tmp_path)
    stderr = ended_by(signal.SIGTERM, process, folder=tmp_path, kill=os.killpg)
    assert "stopped by SIGTERM; saved" in stderr
    resumed = gestalt(*TRAIN, "resume=last", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same(result(tmp_path), whole[2])


def test_resuming_a_run_in_another_folder_does_not_touch_a_run_of_the_same_number(whole, tmp_path):
    assert gestalt(*TRAIN, "seed=7", "trainer.max_steps=3", folder=tmp_path).returncode == 0
    mine = next(tmp_path.glob("lightning_logs/*/*/version_0/checkpoints/last.ckpt"))
    before = mine.read_bytes()
    theirs = tmp_path / "backup" / "version_0"
    shutil.copytree(next(whole[0].glob("lightning_logs/*/*/version_0")), theirs)
    (theirs / "result.json").unlink()
    done = gestalt(*TRAIN, "resume=backup/version_0", folder=tmp_path)
    assert done.returncode == 0, done.stderr
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
        done = gestalt(*TRAIN, "resume=last", folder=tmp_path)
    assert done.returncode == 2
    assert "another process is training" in done.stderr


def test_resume_with_another_config_stops_and_shows_the_difference(whole):
    folder, _, record = whole
    done = gestalt(*TRAIN, "resume=last", "optimizer.learning_rate=0.5", folder=folder)
    assert done.returncode == 2
    assert "optimizer.learning_rate: 0.001 saved, 0.5 given" in done.stderr
    assert result(folder) == record


def test_a_loss_that_is_not_a_number_stops_with_the_step_and_keeps_the_last_good_checkpoint(
    tmp_path,
):
    words = (*TRAIN, "optimizer.learning_rate=1e30", "trainer.gradient_clip_val=null")
    done = gestalt(*words, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "loss is nan at step" in done.stderr
    assert "Traceback" not in done.stderr
    again = gestalt(*words, "resume=auto", folder=tmp_path)
    assert again.returncode == 2, again.stderr
    assert "version_0 stopped: loss is nan at step" in again.stderr


def test_eval_scores_all_images_where_training_scored_a_part_and_both_print_counts(whole):
    folder, trained, record = whole
    done = gestalt(
        "eval",
        "clippy_dino_max",
        "evaluation.batch_size=32",
        "trainer.enable_progress_bar=false",
        folder=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "scenes: 7 of 307 images\nscenes/miou " in trained.stdout
    assert "scenes: all 307 images\nscenes/miou " in done.stdout
    newest = max(
        folder.glob("lightning_logs/*/*/version_0/evaluations/*.json"),
        key=lambda path: int(path.stem),
    )
    for one, images in ((record, 7), (json.loads(newest.read_text()), 307)):
        assert {(entry["images"], entry["images_official"]) for entry in one["benchmarks"]} == {
            (images, 307)
        }
