"""Where a run's time goes, over all processes that worked at it."""

import time
from types import SimpleNamespace

import pytest
from lightning.pytorch.trainer.states import TrainerFn

from gestalt.training.clock import Clock


@pytest.fixture
def now(monkeypatch):
    """A clock that a test moves."""
    hands = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: hands.seconds)
    return hands


def fit(clock, now, *, training, validation):
    """One epoch with its validation."""
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False)
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
