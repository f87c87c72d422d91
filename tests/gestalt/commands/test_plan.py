"""train --plan: a few real steps estimate the cost of a run, and nothing is written."""

from unittest.mock import Mock

import pytest
import torch

from gestalt.commands import plan as command
from gestalt.commands.plan import (
    StepProbe,
    data_line,
    disk_line,
    memory_line,
    time_line,
    waiting_line,
)
from gestalt.module import ContrastiveModule
from tests.gestalt.command import run_here
from tests.gestalt.tiny_config import tiny_config

GIB = 2**30
PLAN = "train clippy_random_max --scale tiny --plan"


def config(*words):
    return tiny_config("data.workers=4", *words, name="clippy_random_max")


@pytest.mark.parametrize(
    ("words", "trial_batch", "ranks", "line"),
    [
        ([], 16, 1, "ok    memory: 9.0 GiB of 24.0 GiB for 16 pairs a device"),
        (
            [],
            10,
            1,
            "; choose data.batch_size=10, image.gradient_checkpointing=true, a smaller image or "
            "more devices",
        ),
        ([], 10, 3, "; choose data.batch_size=30, image.gradient"),
        (
            ["trainer.accumulate_grad_batches=4"],
            10,
            3,
            "; choose data.batch_size=6, image.gradient",
        ),
        (
            [],
            0,
            1,
            "fix   memory: not even one pair fits into 24.0 GiB; choose a smaller model, "
            "image.gradient",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_reported_with_one_that_does(words, trial_batch, ranks, line):
    assert line in memory_line(
        config(*words), trial_batch=trial_batch, batch=16, ranks=ranks, peak=9 * GIB, room=24 * GIB
    )


def test_bad_pairs_and_a_full_disk_are_reported_with_the_fix():
    assert disk_line(3 * GIB, free=100 * GIB).startswith(
        "ok    checkpoints: 3.0 GiB each, 9.0 GiB a run at most"
    )
    assert disk_line(3 * GIB, free=GIB).endswith(
        "1.0 GiB are free; free some space, or start the run in another folder"
    )
    assert data_line(config(), bad=0, pairs=320) == "ok    data: 0 of 320 pairs cannot be read"
    assert data_line(config(), bad=3, pairs=320).endswith(
        "3 of 320 pairs cannot be read; run gestalt data inspect scenes, which names them"
    )


def test_a_run_that_its_longest_time_ends_is_reported():
    assert time_line("time: 2 h", 7200.0, "00:02:00:00") == "ok    time: 2 h"
    assert time_line("time: 2 h", 7201.0, "00:02:00:00").endswith(
        "trainer.max_time=00:02:00:00 ends it before its last step; choose a longer one, or fewer "
        "steps"
    )


@pytest.mark.parametrize(
    ("room", "hidden", "fitting", "tried"),
    [
        (1401, 0, 40, [16, 32]),
        (2000, 0, 64, [16, 32]),
        (500, 0, 0, [16, 32]),
        (1401, 900, 40, [16, 32, 64]),
        (1401, 3000, 64, [16, 32, 64, None]),
    ],
)
def test_two_batch_sizes_tell_how_many_pairs_fit(room, hidden, fitting, tried, monkeypatch):
    """500 MiB for a step of any size, and 20 for each of its pairs; a peak of the start-up."""
    sizes = []
    monkeypatch.setattr(
        command,
        "take_steps",
        lambda trial, probe, batch, **keywords: sizes.append(batch),
    )
    monkeypatch.setattr(command, "SPARE_MEMORY_SHARE", 0)
    monkeypatch.setattr(command, "read_pairs", lambda trial: None)
    monkeypatch.setattr(command, "repeat", lambda pairs, count: count)
    monkeypatch.setattr(
        command,
        "peak_memory",
        lambda device: max([hidden, *(500 + 20 * size for size in sizes if size)]) * 2**20,
    )
    taken, _ = command._time_steps(None, 64, (room - 100) * 2**20, 1, torch.device("cpu"))
    assert taken == fitting
    assert sizes[: len(tried)] == tried


def test_the_trial_has_as_many_loading_processes_as_the_run(monkeypatch):
    for name, value in (("usable_cores", lambda: 64), ("_accelerated", lambda config: True)):
        monkeypatch.setattr(f"gestalt.runs.workers.{name}", value)
    taken = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(command, "_time_steps", taken)
    with pytest.raises(InterruptedError):
        command.plan(config("data.workers=null", "data.batch_size=32"))
    assert taken.call_args.args[0].data.workers == 2  # of 16, by the 64 pairs


def test_a_plan_leaves_the_ranks_of_another_machine_unchecked(monkeypatch, capsys):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "1")
    monkeypatch.setattr(command, "_time_steps", lambda *_: (0, StepProbe()))
    command.plan(config("trainer.devices=2"))
    assert "its 2 ranks were not checked on this machine" in capsys.readouterr().out


def test_waiting_for_data_names_the_workers_that_keep_up(monkeypatch):
    def line(cores: int, *, waited: float, workers: int = 4) -> str:
        monkeypatch.setattr("gestalt.commands.plan.usable_cores", lambda: cores)
        return waiting_line(config(), 20 * waited, 20 * 0.5, workers=workers)

    assert line(64, waited=0.01) == (
        "ok    waiting for data: 2% of the time with data.workers=4: the device is the bottleneck"
    )
    # 4 processes take 2.5 s for 0.5 s of computing
    assert line(64, waited=2.0).endswith("choose data.workers=24 of 64 cores a device")
    assert line(64, waited=2.0, workers=0).endswith("choose data.workers=5 of 64 cores a device")
    assert "24 loading processes are wanted and a device has 4 cores" in line(4, waited=2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["data.batch_size=8", "data.batch_size=4 trainer.accumulate_grad_batches=2"]
)
def test_a_plan_takes_steps_and_writes_nothing(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # all steps, however busy the machine is
    monkeypatch.setattr("gestalt.commands.plan.MAX_SECONDS", 600.0)
    run_here(f"{PLAN} {words} optimizer.ema=0.9")
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith("plan of clippy_random_max at scale tiny: 20 steps on cpu")
    parts = [row[6:].partition(":")[0] for row in text[1:]]
    assert parts == [
        "memory",
        "checkpoints",
        "data",
        "data.workers",
        "waiting for data",
        "speed",
        "compute",
        "time",
    ]
    assert "for 8 pairs a device" in text[1]  # of a step, in however many parts
    assert "16 steps of" in text[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_steps_that_run_out_of_memory_are_tried_with_half_of_the_pairs(
    tmp_path, monkeypatch, capsys
):
    step = ContrastiveModule.training_step

    def cramped(self, batch, index):
        if len(batch["text"]) > 6:
            raise torch.OutOfMemoryError("no more")
        return step(self, batch, index)

    monkeypatch.setattr(ContrastiveModule, "training_step", cramped)
    monkeypatch.chdir(tmp_path)
    run_here(f"{PLAN} evaluation.benchmarks=[]", status=1)
    assert "choose data.batch_size=4, image.gradient_checkpointing=true" in capsys.readouterr().out
