"""train --plan: a few real steps estimate the cost of a run, and nothing is written."""

import dataclasses

import pytest
import torch

from gestalt.__main__ import main
from gestalt.commands.plan import check_alone, loading_of
from gestalt.commands.plan_lines import Planned, lines
from gestalt.commands.plan_trial import joined, memory_of, repeated
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError
from gestalt.module import ContrastiveModule
from gestalt.planning.probes import Step
from gestalt.planning.reckoning import Held, Line, Loading, Memory, Run

GIB = 2**30
KEPT = {"weights": GIB, "gradients": GIB, "optimiser": 2 * GIB}


def planned(**changes) -> Planned:
    """A plan in which all is well, but for the changes."""
    config = load("clippy_random_max", scale="tiny", overrides=["data.workers=4", *changes.pop("words", ())])
    steps = [Step(16, waited=0.0, computed=0.5, peak=0, kept={})] * 20
    fields = {
        **{"config": config, "device": torch.device("cpu"), "ranks": 1, "batch": 16, "timed": steps},
        "memory": Memory(KEPT, Line(0.0, GIB / 8), Line(5.0 * GIB, GIB / 4), 0.0, 1, Held()),
        **{"room": 24.0 * GIB, "loading": Loading(one=20.0, device=32.0, cores=8), "disk": 100 * GIB},
        "run": Run(steps=1000, step=0.5, validations=2, validation=30.0),
        **{"flop": 18_697_453_568, "refused": 0, "bad": 0, "drawn": 64, "unmade": False},
    }
    return Planned(**{**fields, **changes})


def line(plan: Planned, start: str) -> str:
    """The line about something, without the mark."""
    return next(text[6:] for text in lines(plan) if text[6:].startswith(start))


def mends(plan: Planned) -> list[str]:
    return [text for text in lines(plan) if text.startswith("fix")]


def test_a_plan_without_problems_marks_every_line_ok() -> None:
    plan = planned()
    assert (mends(plan), plan.status) == ([], 0)
    assert all(text.startswith("ok  ") for text in lines(plan)[1:])
    assert line(plan, "time") == "time: 9 minutes to the end, 1,000 steps of 0.5 s and 2 validations of 30 s"
    assert line(plan, "compute") == ("compute: 18.7 GFLOP a step, 18.7 TFLOP to the end (matrix products, convolutions and attention)")
    assert line(plan, "speed") == "speed: 32.0 images/s of one device, 0.5 s a step"
    assert line(plan, "checkpoints").startswith("checkpoints: 3.0 GiB each, 9.0 GiB a run at most")


def test_a_batch_that_does_not_fit_is_reported_with_the_largest_that_does() -> None:
    plan = planned(room=8.0 * GIB)
    assert plan.status == 1
    assert mends(plan)[0].endswith("choose data.batch_size=10, image.gradient_checkpointing=true, a smaller image or more devices")
    assert mends(planned(room=float(GIB)))[0].endswith(
        "not even one pair fits: choose a smaller model or image, or a device with more memory"
    )
    assert planned(refused=12).largest == 11
    assert plan.memory.total(10) <= 0.95 * plan.room < plan.memory.total(11)


@pytest.mark.parametrize(
    ("refused", "accumulated", "ranks", "keys"),
    [
        (4, 4, 1, "data.batch_size=1 with trainer.accumulate_grad_batches=3"),
        (4, 4, 2, "data.batch_size=2 with trainer.accumulate_grad_batches=3"),
        (11, 4, 1, "data.batch_size=2"),
        (11, 4, 3, "data.batch_size=6"),
        (2, 1, 2, "data.batch_size=2"),
    ],
)
def test_the_keys_of_a_step_that_fits_give_each_device_a_pair_of_each_batch(refused, accumulated, ranks, keys) -> None:
    plan = planned(refused=refused, ranks=ranks, words=[f"trainer.accumulate_grad_batches={accumulated}"])
    assert plan.largest == refused - 1
    assert f"; choose {keys}, image.gradient_checkpointing=true, a smaller image or more devices" in mends(plan)[0]


def test_waiting_for_data_is_reported_with_the_required_number_of_workers() -> None:
    waiting = [Step(16, waited=0.5, computed=0.5, peak=0, kept={})] * 20
    assert mends(planned(timed=waiting, loading=Loading(4.0, device=32.0, cores=8)))[0].endswith(
        "choose data.workers=8 of 8 cores a device"
    )
    few = planned(timed=waiting, loading=Loading(4.0, device=32.0, cores=4))
    assert "10 loading processes are wanted and a device has 4 cores" in mends(few)[0]
    slow = planned(timed=waiting, loading=Loading(20.0, device=32.0, cores=8))
    assert "more loading processes do not help" in mends(slow)[0]


def test_disk_space_bad_pairs_a_missing_init_and_a_time_limit_are_reported() -> None:
    assert planned(disk=GIB).status == 1
    assert "1.0 GiB are free; free some" in mends(planned(disk=GIB))[0]
    assert "3 of 64 pairs cannot be read" in mends(planned(bad=3))[0]
    assert "gestalt pretrain --init" in mends(planned(unmade=True))[0]
    short = planned(words=["trainer.max_time=00:00:01:00"])
    assert "trainer.max_time=00:00:01:00 ends it before" in mends(short)[0]


def test_a_memory_that_fits_no_pair_is_reported_without_a_division_by_zero() -> None:
    plan = planned(room=float(GIB), timed=[])
    assert plan.status == 1
    assert line(plan, "speed") == "speed: not measured; no pair fits the memory"
    assert line(planned(flop=0), "compute") == "compute: not counted, since no pair can be read or six pairs do not fit the memory"


def test_loading_speed_is_taken_from_steps_where_the_device_waited() -> None:
    waited = [Step(16, waited=0.5, computed=0.5, peak=0, kept={})]
    assert loading_of(waited, one=99.0, workers=2, cores=8) == Loading(8.0, device=32.0, cores=8)
    assert loading_of(waited, one=99.0, workers=0, cores=8).one == 99
    never = [dataclasses.replace(planned()).timed[0]]
    assert loading_of(never, one=99.0, workers=2, cores=8).one == 99


def test_several_devices_keep_no_second_copy_of_the_gradients() -> None:
    counted = {size: Step(size, waited=0.0, computed=1.0, peak=size * GIB, kept={"activations": size, "loss": 0}) for size in (2, 4)}
    alone, among = (memory_of(counted, (), kept=KEPT, ranks=ranks, compared=Held()) for ranks in (1, 4))
    assert among.kept == alone.kept == KEPT
    assert among.peak == alone.peak


def test_several_processes_of_a_launcher_are_refused() -> None:
    check_alone({"WORLD_SIZE": "1"})
    with pytest.raises(ConfigError, match="torchrun started 8"):
        check_alone({"WORLD_SIZE": "8"})


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["data.batch_size=8"], ["data.batch_size=4", "trainer.accumulate_grad_batches=2", "loss.terms={nouns: 1.0}"]]
)
def test_a_plan_takes_steps_and_writes_nothing(words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gestalt.commands.plan_trial.SECONDS", 600.0)  # all steps, however busy the machine is
    assert main(["train", "clippy_random_max", "--scale", "tiny", "--plan", *words, "optimizer.ema=0.9"]) == 0
    text = capsys.readouterr().out.splitlines()
    assert text[0].startswith("plan of clippy_random_max at scale tiny: 20 steps on cpu")
    assert {"data", "memory", "largest batch", "compute", "speed", "waiting for data", "checkpoints", "time"} == {
        row[6:].partition(":")[0] for row in text[1:]
    }
    assert "16 steps of" in text[-1]
    assert any("for 8 pairs a device" in row for row in text)  # of a step, in however many parts
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_steps_that_run_out_of_memory_are_tried_with_fewer_pairs(tmp_path, monkeypatch, capsys) -> None:
    step = ContrastiveModule.training_step

    def cramped(self, batch, index):
        if len(batch["text"]) > 3:
            raise torch.OutOfMemoryError("no more")
        return step(self, batch, index)

    monkeypatch.setattr(ContrastiveModule, "training_step", cramped)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "clippy_random_max", "--scale", "tiny", "--plan", "evaluation.benchmarks=[]"]) == 1
    text = capsys.readouterr().out
    assert "choose data.batch_size=3, image.gradient_checkpointing=true" in text
    assert "20 steps on" in text


def test_pairs_are_joined_cut_and_repeated_with_the_count_of_those_that_can_be_read() -> None:
    parts = [
        {"image": torch.tensor([number, number + 1]), "text": ["a", "b"], "valid": torch.tensor([True, number > 0]), "valid_count": 1}
        | {"token_ids": torch.zeros(2, 4 + number, dtype=torch.int64), "token_mask": torch.ones(2, 4 + number, dtype=torch.bool)}
        | {"negative_ids": torch.ones(2, 2 + number, dtype=torch.int64), "negative_mask": torch.ones(2, 2 + number, dtype=torch.bool)}
        for number in (0, 2)
    ]
    whole = joined(parts)
    assert not {"token_ids", "token_mask"} & whole.keys()
    assert (whole["image"].tolist(), whole["text"], whole["valid_count"]) == ([0, 1, 2, 3], ["a", "b", "a", "b"], 2)
    rows = [[1, 1, 0, 0]] * 2 + [[1] * 4] * 2
    assert (whole["negative_ids"].tolist(), whole["negative_mask"].int().tolist()) == (rows, rows)
    one, other = repeated(whole, count=6, times=2)
    assert one is other
    assert (one["image"].tolist(), one["text"], one["valid_count"]) == ([0, 1, 2, 3, 0, 1], list("ababab"), 4)
    assert repeated(whole, count=2, times=1)[0]["valid_count"] == 1
