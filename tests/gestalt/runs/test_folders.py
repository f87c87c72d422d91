"""The folder of a new run, and the checkpoint that a resumed one starts from."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gestalt.config.identity import to_yaml
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError
from gestalt.runs.folders import check_writable, new_evaluation, new_version
from gestalt.runs.names import resolve_checkpoint, variations
from gestalt.runs.resume import resolve_resume

RACERS = 16


def test_a_file_outside_a_run_is_refused_as_a_checkpoint() -> None:
    Path("weights.pt").touch()
    with pytest.raises(ConfigError, match=r"weights\.pt: not in the checkpoints/ of a run: no config\.yaml in"):
        resolve_checkpoint("weights.pt")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(variable, raising=False)


def config(*overrides: str):
    return load("clippy_dino_max", scale="tiny", overrides=list(overrides))


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
    """Return the folders that many threads claim at the same moment."""
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


def test_runs_that_start_at_once_get_a_folder_each():
    asked = config()
    found = raced(lambda: new_version(asked))
    assert len(set(found)) == RACERS
    assert all(folder.is_dir() for folder in found)


def test_evaluations_that_end_at_once_get_a_file_each(tmp_path):
    found = raced(lambda: new_evaluation(tmp_path))
    assert len(set(found)) == RACERS


def test_a_version_folder_made_concurrently_is_not_reused(monkeypatch):
    asked = config()
    parent = Path("lightning_logs/clippy_dino_max/tiny")
    (parent / "version_0").mkdir(parents=True)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))  # as if it had been made after looking
    assert new_version(asked) == parent / "version_1"


def test_a_version_follows_the_highest_one_and_never_fills_a_gap():
    for number in (0, 2, 10):
        saved_run(number)
    (Path("lightning_logs/clippy_dino_max/tiny") / "version_mine").mkdir()
    assert new_version(config()).name == "version_11"


def test_only_the_first_rank_makes_a_folder(monkeypatch):
    monkeypatch.setattr("gestalt.runs.folders.first_rank", lambda: False)
    assert new_version(config()) is None
    assert not Path("lightning_logs").exists()


def test_a_name_means_the_newest_run_where_none_is_a_variant():
    saved_run(0, "seed=1")
    newest = saved_run(1, "optimizer.learning_rate=0.5", "seed=2")
    assert resolve_checkpoint("clippy_dino_max") == newest


def test_a_name_means_the_newest_run_where_all_are_variants():
    saved_run(0, "image.aggregation=avg")
    newest = saved_run(1, "image.aggregation=cls")
    assert resolve_checkpoint("clippy_dino_max") == newest


def test_a_name_is_refused_where_the_newest_run_is_a_variant_and_another_is_not():
    plain = saved_run(0).parents[1]
    variant = saved_run(1, "image.aggregation=cls", "seed=1").parents[1]
    with pytest.raises(ConfigError) as refusal:
        resolve_checkpoint("clippy_dino_max")
    assert str(refusal.value) == (
        f"clippy_dino_max: its newest run, {variant}, is a variant of the experiment (image.aggregation=cls); "
        f"choose that folder, or {plain}, the newest that is not a variant"
    )
    assert resolve_checkpoint(str(variant)) == variant / "checkpoints" / "last.ckpt"


def test_a_run_that_was_only_tuned_is_a_variant():
    plain = saved_run(0)
    tuned = saved_run(1, "evaluation.split=tune", "optimizer.learning_rate=0.5").parents[1]
    with pytest.raises(ConfigError, match=r"is a variant of the experiment \(evaluation.split=tune\)"):
        resolve_checkpoint("clippy_dino_max")
    assert resolve_checkpoint(str(tuned)) != plain


def test_variations_are_found_for_an_experiment_whose_benchmarks_need_a_root(tmp_path):
    words = [f"data.root={tmp_path}", "evaluation.benchmarks=[]", "image.aggregation=avg"]
    run = tmp_path / "version_0"
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(load("clippy_supervised_max", scale="photos", overrides=words)))
    assert variations(run) == ["image.aggregation=avg"]


def test_without_resume_there_is_no_checkpoint():
    saved_run(0)
    assert resolve_resume(config()) is None


def test_last_is_the_newest_run_of_the_same_config():
    for number in (0, 2, 9, 10):
        saved_run(number)
    saved_run(11, "optimizer.learning_rate=0.5")
    saved_run(12, checkpoint=False)
    assert resolve_resume(config("resume=last")).parents[1].name == "version_10"


def test_resuming_accepts_changes_that_do_not_affect_results():
    last = saved_run(0, "data.workers=2", "trainer.log_every_n_steps=7")
    assert resolve_resume(config("resume=last", "trainer.devices=2")) == last


def test_resume_last_refuses_another_config_with_the_differing_keys_and_values():
    saved_run(3, "optimizer.learning_rate=0.5", "seed=4")
    with pytest.raises(ConfigError) as refusal:
        resolve_resume(config("resume=last"))
    message = str(refusal.value)
    assert "version_3" in message
    assert "is of another configuration: optimizer.learning_rate: 0.5 saved, 0.001 given; seed: 4 saved, 0 given; give the" in message


@pytest.mark.parametrize("target", ["lightning_logs/clippy_dino_max/tiny/version_0", "clippy_dino_max"])
def test_a_named_run_of_another_config_is_refused_too(target):
    saved_run(0, "image.aggregation=avg")
    with pytest.raises(ConfigError, match=r"image\.aggregation: avg saved, max given"):
        resolve_resume(config(f"resume={target}"))


def test_resume_last_without_a_checkpoint_names_the_searched_folder():
    saved_run(0, checkpoint=False)
    with pytest.raises(ConfigError, match="resume=last: no checkpoint under lightning_logs/clippy_dino_max/tiny"):
        resolve_resume(config("resume=last"))


def test_resume_last_searches_only_the_folder_of_its_scale():
    saved_run(0)
    with pytest.raises(ConfigError, match="no checkpoint under lightning_logs/clippy_dino_max/demo"):
        resolve_resume(replace(config("resume=last"), scale="demo"))


def test_a_checkpoint_a_runs_folder_and_an_experiment_lead_to_the_same_file():
    saved_run(0)
    last = saved_run(1)
    for target in (last, last.parents[1], "clippy_dino_max"):
        assert resolve_checkpoint(str(target)) == last


def test_an_experiment_means_its_newest_checkpoint():
    saved_run(0)
    newest = saved_run(1)
    saved_run(2)
    os.utime(newest, (2e9, 2e9))
    assert resolve_checkpoint("clippy_dino_max") == newest


def test_an_unknown_target_is_refused_with_the_list_of_runs():
    saved_run(4)
    with pytest.raises(ConfigError, match=r"clippy_dino_mix: neither .*; runs here: lightning_logs/clippy_dino_max/tiny/version_4$"):
        resolve_checkpoint("clippy_dino_mix")


def test_where_there_is_no_run_the_list_is_empty():
    with pytest.raises(ConfigError, match="runs here: none"):
        resolve_checkpoint("clippy_dino_max")


def test_a_checkpoint_without_its_config_is_refused():
    last = saved_run(0)
    (last.parents[1] / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"no config\.yaml in .*version_0"):
        resolve_checkpoint(str(last))


def test_a_folder_that_cannot_be_written_is_named_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/below: cannot be written \(Not a directory\); choose another folder with --output DIR"):
        check_writable(tmp_path / "file" / "below")
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
