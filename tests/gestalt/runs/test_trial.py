"""A trial's estimates."""

from types import SimpleNamespace

from gestalt.runs import trial
from tests.gestalt.tiny_config import tiny_config


def test_the_ranks_share_the_batches_of_a_validation(monkeypatch):
    """One batch takes two seconds, each further one a second; each of two ranks scores five."""
    clock = [0.0]

    def validate(limit):
        clock[0] += 1 + limit

    def trainer(_, *scorers, limit_val_batches):
        return SimpleNamespace(validate=lambda *_, **__: validate(limit_val_batches))

    data = SimpleNamespace(val_dataloader=lambda: [range(9)])
    monkeypatch.setattr(trial, "build_evaluation", lambda config: (data, []))
    monkeypatch.setattr(trial, "trial_trainer", trainer)
    monkeypatch.setattr(trial.time, "monotonic", lambda: clock[0])
    run = SimpleNamespace(config=tiny_config(), module=None)
    assert trial.time_validation(run, ["scenes"], ranks=2) == 6
