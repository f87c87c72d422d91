"""Fixture for the tests of grids and of their launchers."""

import pytest

from tests.gestalt.ablation.fake_run import FAKE
from tests.gestalt.command import environment


@pytest.fixture
def fakes(cwd, monkeypatch):
    """An empty working directory, in which the runs of a grid are fake ones."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    monkeypatch.setattr("gestalt.ablation.study.commit", lambda: "c0ffee")
    monkeypatch.setattr("gestalt.ablation.launchers.PROGRAM", FAKE)
    monkeypatch.setattr("gestalt.ablation.queue.TICK", 0.01)
    monkeypatch.delenv("FAKE", raising=False)
