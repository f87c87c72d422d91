"""train --plan: a few real steps estimate the cost of a run, and nothing is written."""

import pytest
import torch

from gestalt.__main__ import main
from gestalt.commands.plan import Plan, lines
from gestalt.config.loading import load
from gestalt.module import ContrastiveModule

GIB = 2**30


def planned(*words, **changes) -> Plan:
    """A plan in which all is well, but for the changes."""
    fields = {
        **{"config": load("clippy_random_max", scale="tiny", overrides=["data.workers=4", *words]), "device": torch.device("cpu")},
        **{"ranks": 1, "batch": 16, "tried": 16, "waited": [0.0] * 20, "computed": [0.5] * 20, "bad": 0, "flop": 18_697_453_568},
        **{"peak": 9 * GIB, "room": 24 * GIB, "checkpoint": 3 * GIB, "free": 100 * GIB},
        **{"steps": 1000, "validations": 2, "validation": 30.0, "init_missing": False},
    }
    return Plan(**{**fields, **changes})


def mends(plan: Plan) -> list[str]:
    return [text for text in lines(plan) if text.startswith("fix")]


def test_a_plan_without_problems_marks_every_line_ok() -> None:
    plan = planned()
    assert plan.status == 0
    assert lines(plan)[1:] == [
        "ok    memory: 9.0 GiB of 24.0 GiB for 16 pairs a device",
        "ok    compute: 18.7 GFLOP a step, 18.7 TFLOP to the end (matrix products, convolutions and attention)",
        "ok    data: 0 of 320 pairs cannot be read",
        "ok    speed: 32.0 images/s of one device, 0.5 s a step",
        "ok    waiting for data: 0% of the time with data.workers=4: the device is the bottleneck",
        "ok    checkpoints: 3.0 GiB each, 9.0 GiB a run at most (last, best, one while it is written); 100.0 GiB are free",
        "ok    time: 9 min 20 s to the end, 1,000 steps of 0.5 s and 2 validations of 30 s",
    ]


@pytest.mark.parametrize(
    ("words", "changes", "mend"),
    [
        ([], {"tried": 10}, "choose data.batch_size=10, image.gradient_checkpointing=true, a smaller image or more devices"),
        ([], {"tried": 10, "ranks": 3}, "choose data.batch_size=30, image.gradient"),
        (["trainer.accumulate_grad_batches=4"], {"tried": 10, "ranks": 3}, "choose data.batch_size=6, image.gradient"),
        ([], {"tried": 0}, "not even two pairs fit into 24.0 GiB; choose a smaller model, image.gradient"),
        ([], {"free": GIB}, "1.0 GiB are free; free some space"),
        ([], {"bad": 3}, "3 of 320 pairs cannot be read; run gestalt data inspect scenes"),
        ([], {"init_missing": True}, "run gestalt pretrain --init random --scale tiny"),
        (["trainer.max_time=00:00:01:00"], {}, "trainer.max_time=00:00:01:00 ends it before; choose a longer one"),
    ],
)
def test_a_problem_is_one_line_with_its_fix(words, changes, mend) -> None:
    plan = planned(*words, **changes)
    (line,) = mends(plan)
    assert mend in line
    assert plan.status == int(bool({"tried", "free"} & changes.keys()))


def test_waiting_for_data_names_the_workers_that_keep_up(monkeypatch) -> None:
    def mend(cores: int) -> str:
        monkeypatch.setattr("gestalt.commands.plan.usable_cores", lambda: cores)
        (line,) = mends(planned(waited=[2.0] * 20, computed=[0.5] * 20))
        return line

    assert "a loading process gives 1.6 images/s, the device takes 32.0" in mend(64)  # 16 pairs in 2.5 s by 4 processes
    assert mend(64).endswith("choose data.workers=24 of 64 cores a device")
    assert "24 loading processes are wanted and a device has 4 cores" in mend(4)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["data.batch_size=8"], ["data.batch_size=4", "trainer.accumulate_grad_batches=2"]])
def test_a_plan_takes_steps_and_writes_nothing(words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gestalt.commands.plan.SECONDS", 600.0)  # all steps, however busy the machine is
    assert main(["train", "clippy_random_max", "--scale", "tiny", "--plan", *words, "optimizer.ema=0.9"]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith("plan of clippy_random_max at scale tiny: 20 steps on cpu")
    parts = [row[6:].partition(":")[0] for row in text[1:]]
    assert parts == ["memory", "compute", "data", "speed", "waiting for data", "checkpoints", "time"]
    assert "for 8 pairs a device" in text[1]  # of a step, in however many parts
    assert "16 steps of" in text[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_steps_that_run_out_of_memory_are_tried_with_half_of_the_pairs(tmp_path, monkeypatch, capsys) -> None:
    step = ContrastiveModule.training_step

    def cramped(self, batch, index):
        if len(batch["text"]) > 6:
            raise torch.OutOfMemoryError("no more")
        return step(self, batch, index)

    monkeypatch.setattr(ContrastiveModule, "training_step", cramped)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "clippy_random_max", "--scale", "tiny", "--plan", "evaluation.benchmarks=[]"]) == 1
    assert "choose data.batch_size=4, image.gradient_checkpointing=true" in capsys.readouterr().out
