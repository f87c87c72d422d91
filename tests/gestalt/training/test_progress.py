"""Images a second, the time left, and profilers."""

import itertools
import time
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from gestalt.training import progress
from gestalt.training.progress import WINDOW, Clock, RunProgressBar, Speed
from gestalt.training.trainer import build_profiler
from tests.gestalt.at_step import trainer_at
from tests.gestalt.training.test_bad_samples import Module

BATCH = {"place": [""] * 8 + ["shard: bad one"] * 2}


def after(
    *epochs: list[float], ranks: int = 1, monkeypatch: pytest.MonkeyPatch
) -> tuple[Speed, Module]:
    """Return the callback and the module after epochs of steps that ended at these seconds, in a
    run of a hundred steps.
    """
    clock, callback, module = itertools.chain(*epochs), Speed(), Module()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for ends in epochs:
        callback.on_train_epoch_start(trainer_at(), module)
        for done, _ in enumerate(ends, start=1):
            trainer = trainer_at(done, world_size=ranks, estimated_stepping_batches=100)
            callback.on_train_batch_end(trainer, module, None, BATCH, done - 1)
    return callback, module


@pytest.mark.parametrize("ranks", [1, 3])
def test_images_of_all_ranks_are_counted(monkeypatch, ranks):
    callback, module = after([0.0, 0.5, 1.0], ranks=ranks, monkeypatch=monkeypatch)
    assert callback.images_per_second == pytest.approx(8 * ranks / 0.5)
    assert callback.seconds_left == pytest.approx(97 * 0.5)
    assert module.logged["speed/images_per_second"] == callback.images_per_second


def test_the_first_step_has_no_speed(monkeypatch):
    callback, module = after([3.0], monkeypatch=monkeypatch)
    assert (callback.images_per_second, module.logged) == (0, {})


def test_the_speed_is_measured_over_the_latest_steps(monkeypatch):
    slow = [10.0 * step for step in range(5)]
    fast = [slow[-1] + 0.1 * step for step in range(1, WINDOW + 1)]
    callback, _ = after(slow + fast, monkeypatch=monkeypatch)
    assert callback.images_per_second == pytest.approx(8 / 0.1)
    assert callback.seconds_per_step == pytest.approx(0.1)


def test_time_in_validation_does_not_count(monkeypatch):
    callback, _ = after([0.0, 1.0], [900.0, 901.0], monkeypatch=monkeypatch)
    assert callback.images_per_second == pytest.approx(8)


def test_the_progress_bar_shows_speed_and_time_left(monkeypatch):
    monkeypatch.setattr(
        TQDMProgressBar,
        "get_metrics",
        lambda self, trainer, module: {"v_num": 3, "train/loss": 2.5},
    )
    known = Speed()
    known.images_per_second, known.seconds_left = 41.6, 724.9
    assert RunProgressBar(known).get_metrics(None, None) == {
        "train/loss": 2.5,
        "images/s": "42",
        "left": "12:04",
    }
    shown = RunProgressBar(known).get_metrics(None, SimpleNamespace(last_loss=1.23456))
    assert shown == {"train/loss": 2.5, "loss": "1.235", "images/s": "42", "left": "12:04"}


@pytest.mark.parametrize("name", ["simple", "advanced"])  # torch's own wants a whole run around it
def test_a_profiler_leaves_its_table_in_the_runs_folder(tmp_path, name):
    profiler = build_profiler(name, tmp_path)
    profiler.setup("fit", local_rank=0)
    profiler.start("run_training_batch")
    torch.zeros(3).add(1)
    profiler.stop("run_training_batch")
    profiler.describe()
    (file,) = (tmp_path / "profile").glob("*profile*.txt")
    assert file.stat().st_size


@pytest.fixture
def now(monkeypatch):
    """A clock that a test moves."""
    hands = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: hands.seconds)
    return hands


def fit(clock, now, *, training, validation):
    """One epoch with its validation."""
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING))
    clock.on_train_start(trainer, None)
    now.seconds += training
    clock.on_validation_start(trainer, None)
    now.seconds += validation
    clock.on_validation_end(trainer, None)
    clock.on_train_end(trainer, None)


def test_training_validation_and_the_rest_add_up(now):
    clock = Clock(now.seconds)
    now.seconds += 5
    fit(clock, now, training=20, validation=7)
    now.seconds += 1
    assert clock.seconds == {"other": 6, "training": 20, "validation": 7}


def test_a_resumed_run_adds_to_the_recorded_seconds(now):
    first = Clock(now.seconds)
    fit(first, now, training=20, validation=7)
    second = Clock(now.seconds)
    second.load_state_dict(first.state_dict())
    fit(second, now, training=1, validation=1)
    assert second.seconds == {"other": 0, "training": 21, "validation": 8}
