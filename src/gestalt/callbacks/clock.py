"""Where a run's time goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn


class Clock(Callback):
    """Seconds of training, of validation, and of all else (start-up, writing), over all processes that worked at the run.

    Args:
        start: ``time.monotonic()`` when this process began.
    """

    def __init__(self, start: float) -> None:
        self._seconds = {"other": 0.0, "training": 0.0, "validation": 0.0}
        self._mark = start
        self._phase = "other"

    @property
    def seconds(self) -> dict[str, float]:
        """So far, to a tenth."""
        self._turn(self._phase)
        return {key: round(value, 1) for key, value in self._seconds.items()}

    @contextmanager
    def validating(self) -> Iterator[None]:
        """What is inside counts as validation: for a callback that measures between steps."""
        before = self._phase
        self._turn("validation")
        try:
            yield
        finally:
            self._turn(before)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start-up ends."""
        self._turn("training")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training stands still."""
        self._turn("validation")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training goes on, where it had begun."""
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        self._turn("training" if training else "other")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training ends."""
        self._turn("other")

    def state_dict(self) -> dict[str, Any]:
        """Goes into every checkpoint, so that a resumed run adds to it."""
        return self.seconds

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add what earlier processes spent."""
        for key, value in state_dict.items():
            self._seconds[key] += value

    def _turn(self, phase: str) -> None:
        now = time.monotonic()
        self._seconds[self._phase] += now - self._mark
        self._mark, self._phase = now, phase
