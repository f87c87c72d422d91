"""The folder of a new run, and the checkpoint that a resumed one starts from."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gestalt.config.schema import to_yaml
from gestalt.runs import folders
from gestalt.runs.folders import check_writable, new_evaluation, new_version
from gestalt.runs.resume import resolve_resume
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config

RACERS = 16


@pytest.fixture(autouse=True)
def _in_an_empty_folder(cwd, monkeypatch):
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(variable, raising=False)


def config(*overrides: str):
    return tiny_config(*overrides)


def saved_run(number: int, *overrides: str, checkpoint: bool = True) -> Path:
    """A run's folder as training leaves it; its checkpoint is as old as its number says."""
    folder = Path("lightning_logs/clippy_dino_max/tiny") / f"version_{number}"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config(*overrides)))
    last = folder / "checkpoints" / "last.ckpt"
    if checkpoint:
        last.touch()
        os.utime(last, (1e9 + number, 1e9 + number))
    return last


def raced(claim) -> list[Path]:
    """The folders that many threads claim at the same moment."""
    gate, found = threading.Barrier(RACERS), []

    def run() -> None:
        gate.wait()
        found.append(claim())

    threads = [threading.Thread(target=run) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_runs_that_start_and_evaluations_that_end_at_once_get_a_place_each(tmp_path):
    asked = config()
    assert len(set(raced(lambda: new_version(asked)))) == RACERS

    def evaluate() -> Path:
        with new_evaluation(tmp_path) as path:
            path.write_text("{}")
        return path

    assert len(set(raced(evaluate))) == RACERS


def test_a_version_folder_made_concurrently_is_not_reused(monkeypatch):
    asked = config()
    parent = Path("lightning_logs/clippy_dino_max/tiny")
    (parent / "version_0").mkdir(parents=True)
    # as if it had been made after looking
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    assert new_version(asked) == parent / "version_1"


def test_a_version_follows_the_highest_one_and_never_fills_a_gap():
    for number in (0, 2, 10):
        saved_run(number)
    (Path("lightning_logs/clippy_dino_max/tiny") / "version_mine").mkdir()
    assert new_version(config()).name == "version_11"


def test_only_the_first_rank_makes_a_folder(monkeypatch):
    monkeypatch.setattr(folders, "first_rank", lambda: False)
    assert new_version(config()) is None
    assert not Path("lightning_logs").exists()


def test_last_is_the_newest_run_of_the_same_config():
    for number in (0, 2, 9, 10):
        saved_run(number)
    saved_run(11, "optimizer.learning_rate=0.5")
    saved_run(12, checkpoint=False)
    assert resolve_resume(config("resume=last")).parents[1].name == "version_10"


def test_resuming_accepts_changes_that_do_not_affect_results():
    last = saved_run(0, "data.workers=2", "trainer.log_every_n_steps=7")
    assert resolve_resume(config("resume=last", "trainer.devices=2")) == last


@pytest.mark.parametrize(
    "resume", ["last", "auto", "lightning_logs/clippy_dino_max/tiny/version_0"]
)
@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor"])
@pytest.mark.parametrize("eps", ["null", "1.0e-6", "1.0e-7"])
def test_a_resumed_run_keeps_the_eps_that_it_has_saved(resume, name, eps):
    words = (f"resume={resume}", f"optimizer.name={name}")
    last = saved_run(0, words[1], f"optimizer.eps={eps}")  # 0.3.0 saved 1e-6 with every optimiser
    saved = config(words[1], f"optimizer.eps={eps}")
    if eps != "1.0e-7":
        asked = config(*words)
        assert resolve_resume(asked) == last
        assert asked == replace(saved, resume=resume)
    assert resolve_resume(config(*words, f"optimizer.eps={eps}")) == last


def test_resume_last_refuses_another_config_with_the_differing_keys_and_values():
    saved_run(3, "optimizer.learning_rate=0.5", "seed=4")
    with pytest.raises(ConfigError) as refusal:
        resolve_resume(config("resume=last"))
    message = str(refusal.value)
    assert "version_3" in message
    assert (
        "is of another configuration: optimizer.learning_rate: 0.5 saved, 0.001 given; seed: 4 "
        "saved, 0 given; give the" in message
    )


def test_resume_takes_no_experiments_name_which_would_mean_a_finished_run():
    saved_run(0)
    with pytest.raises(
        ConfigError,
        match="resume=clippy_dino_max: no such folder or checkpoint; name one, or write resume",
    ):
        resolve_resume(config("resume=clippy_dino_max"))


def test_resume_last_without_a_checkpoint_names_the_searched_folder():
    saved_run(0, checkpoint=False)
    with pytest.raises(
        ConfigError, match="resume=last: no checkpoint under lightning_logs/clippy_dino_max/tiny"
    ):
        resolve_resume(config("resume=last"))


def test_a_folder_that_cannot_be_written_is_named_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError,
        match=r"file/below: cannot be written \(Not a .*folder with --output DIR",
    ):
        check_writable(tmp_path / "file" / "below")
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
