"""The run of a name is the newest that is finished and plain; that of a folder is the run in it."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gestalt.config.loading import load
from gestalt.config.schema import to_yaml
from gestalt.models.finding import resolve_checkpoint, variations
from gestalt.models.names import CHECKPOINT, config_of, is_finished, progress, run_of
from gestalt.results.record import result_paths
from gestalt.support.typed import ConfigError
from tests.gestalt.runs.test_folders import config

NAME = "clippy_dino_max"
TINY = Path("lightning_logs") / NAME / "tiny"


pytestmark = pytest.mark.usefixtures("cwd")


def saved_run(
    number: int, *overrides: str, steps: int = 900, planned: int | None = 900, changed=None
) -> Path:
    """A run's folder; its files are as old as its number says.  A run that has taken its 900 steps
    is recorded.
    """
    folder = TINY / f"version_{number}"
    (folder / "checkpoints").mkdir(parents=True)
    saved = config(*overrides)
    (folder / "config.yaml").write_text(to_yaml(changed(saved) if changed else saved))
    gestalt = {"last_loss": 1.0, "kept": ""} | (
        {} if planned is None else {"steps_planned": planned}
    )
    torch.save(
        {"epoch": 0, "global_step": steps, "state_dict": {}, "gestalt": gestalt},
        folder / CHECKPOINT,
    )
    if steps == 900:
        record = {"steps": steps, "steps_planned": planned or 900, "overrides": list(overrides)}
        (folder / "result.json").write_text(json.dumps(record))
    for file in folder.rglob("*.*"):
        os.utime(file, (1e9 + number, 1e9 + number))
    return folder


def meant(target: object = NAME) -> Path:
    """The folder of the run that a word means."""
    return resolve_checkpoint(str(target)).parents[1]


def refusal(target: str = NAME) -> str:
    with pytest.raises(ConfigError) as refused:
        resolve_checkpoint(target)
    return str(refused.value)


def test_a_checkpoint_is_known_by_its_run_from_within_the_folder(monkeypatch):
    monkeypatch.chdir(saved_run(0) / CHECKPOINT.parent)
    assert run_of(Path(CHECKPOINT.name))


def test_a_name_means_the_newest_finished_run_for_models_and_for_results_alike():
    saved_run(9)
    newest = saved_run(10)
    saved_run(11, steps=9)
    stopped = saved_run(12, steps=9)
    # trainer.max_time ended it
    (stopped / "result.json").write_text('{"steps": 9, "steps_planned": 900}')
    assert meant() == newest
    assert result_paths(NAME, evaluations=False) == [newest / "result.json"]


@pytest.mark.parametrize("recorded", [False, True])
def test_a_name_with_unfinished_runs_only_is_refused_with_the_newest_and_its_step(recorded):
    saved_run(0, steps=800)
    newest = saved_run(1, "seed=1", steps=9)
    if recorded:
        (newest / "result.json").write_text('{"steps": 9, "steps_planned": 900}')
    stopped = f"{NAME}: no plain run of it is finished; the newest, {newest}, is at step 9 of 900"
    fix = f"continue it with its overrides and resume={newest}"
    assert refusal() == f"{stopped}; {fix}, or name that folder"
    with pytest.raises(ConfigError, match=rf"{fix}{', or name' if recorded else '$'}"):
        result_paths(NAME, evaluations=False)


def test_a_folder_means_its_run_finished_or_not_variant_or_not():
    saved_run(0)
    for number, words in enumerate(((), ("image.aggregation=avg",)), start=1):
        folder = saved_run(number, *words, steps=9)
        for target in (folder, folder / CHECKPOINT):
            assert meant(target) == folder


def test_a_run_is_plain_whose_overrides_do_not_change_what_is_trained():
    # as the experiment
    same = ["image.aggregation=max", "data.batch_size=8", "trainer.accumulate_grad_batches=2"]
    assert (
        saved_run(
            0, "seed=3", "data.workers=2", "evaluation.limit=3", "evaluation.benchmarks=[]", *same
        )
        == meant()
    )


@pytest.mark.parametrize(
    "word",
    ["image.aggregation=avg", "optimizer.learning_rate=0.5", "evaluation.split=tune"],
)
def test_a_variant_never_takes_the_name(word):
    variant = saved_run(0, word)
    assert refusal() == (
        f"{NAME}: no plain run of it is finished; the newest, {variant}, is finished and has "
        f"{word}; train the experiment without overrides, or name that folder"
    )
    plain = saved_run(1)
    saved_run(2, word)
    assert meant() == plain


def test_an_unfinished_variant_is_named_with_its_step():
    saved_run(0, "image.aggregation=avg")
    saved_run(1, "image.aggregation=cls", steps=9)
    assert "version_1, is at step 9 of 900 and has image.aggregation=cls; train" in refusal()


def test_the_place_of_the_data_makes_no_variant(tmp_path):
    words = [f"data.root={tmp_path}", "evaluation.benchmarks=[]"]
    run = tmp_path / "version_0"
    run.mkdir()
    for word, varied in (("seed=1", []), ("image.aggregation=avg", ["image.aggregation=avg"])):
        (run / "config.yaml").write_text(
            to_yaml(load("clippy_supervised_max", scale="photos", overrides=[*words, word]))
        )
        assert variations(run) == varied


def test_of_an_experiment_in_a_file_of_the_users_recorded_overrides_make_a_variant():
    plain = saved_run(0, "seed=1", changed=lambda saved: replace(saved, name="mine"))
    saved_run(1, "image.aggregation=avg", changed=lambda saved: replace(saved, name="mine"))
    shutil.move(TINY.parent, "lightning_logs/mine")
    assert meant("mine").name == plain.name


NO_RUN = "this experiment has no run here; train it with `gestalt train"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{NAME}/demo", f"{NO_RUN} {NAME} --scale demo`"),
        ("clippy_dino_avg", f"{NO_RUN} clippy_dino_avg`"),
        (
            "clippy_dino_mix",
            "neither a checkpoint, nor a run's folder, nor an experiment with one; runs here: "
            f"{TINY}/version_0",
        ),
    ],
)
def test_a_name_or_a_scale_without_a_run_is_answered_with_what_to_do(name, said):
    assert saved_run(0) == meant(f"{NAME}/tiny")
    assert refusal(name).endswith(f"{name}: {said}")


def test_a_finished_run_without_its_checkpoint_does_not_leave_its_name_to_an_older_one():
    saved_run(0)
    (saved_run(1) / CHECKPOINT).unlink()
    assert "version_1, has lost its checkpoints/last.ckpt" in refusal()


def test_a_folder_with_several_runs_is_refused_and_one_above_a_single_run_means_it():
    run = saved_run(0)
    assert meant(TINY) == run
    saved_run(1)
    assert "tiny: holds 2 runs; name one of" in refusal(str(TINY))
    for number in range(2, 13):
        saved_run(number)
    assert refusal(str(TINY)).endswith(", ...")


def test_a_checkpoint_outside_a_run_and_one_without_its_config_are_refused():
    Path("weights.pt").touch()
    run = saved_run(0)
    (run / "config.yaml").unlink()
    for checkpoint, said in {
        Path("weights.pt"): r"^weights\.pt cannot be read .*damaged",
        run / CHECKPOINT: r"last\.ckpt: no configuration in it",
    }.items():
        with pytest.raises(ValueError, match=said):
            config_of(checkpoint, run_of(checkpoint))


def test_progress_is_read_from_the_checkpoint():
    assert str(progress(saved_run(0, steps=9) / CHECKPOINT)) == "step 9 of 900"
    assert (
        str(progress(saved_run(2, steps=70_000, planned=None) / CHECKPOINT))
        == "step 70000 of an unknown number"
    )


def test_a_record_whose_steps_are_null_is_one_of_a_finished_run():
    run = saved_run(0)
    (run / "result.json").write_text('{"steps": null}')
    assert is_finished(run)


def test_a_checkpoint_whose_progress_is_no_mapping_is_refused_by_name():
    run = saved_run(0)
    torch.save({"state_dict": {}, "gestalt": 3}, run / CHECKPOINT)
    with pytest.raises(ValueError, match="not a checkpoint of a run, it has no mapping in gestalt"):
        progress(run / CHECKPOINT)
