"""Clock: seconds of training, validation and other work."""

import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn


class Clock(Callback):
    """Counts seconds of training, of validation and of other work (start-up, writing), over all
    processes of a run.

    Args:
        start: ``time.monotonic()`` at the start of this process.
    """

    def __init__(self, start: float) -> None:
        self._seconds = {"other": 0.0, "training": 0.0, "validation": 0.0}
        self._mark = start
        self._phase = "other"

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far, rounded to a tenth."""
        self._switch(self._phase)
        return {key: round(value, 1) for key, value in self._seconds.items()}

    def on_train_start(self, *_: Any) -> None:
        """Switch to training."""
        self._switch("training")

    def on_validation_start(self, *_: Any) -> None:
        """Switch to validation."""
        self._switch("validation")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Switch back to training, if it has begun."""
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        self._switch("training" if training else "other")

    def on_train_end(self, *_: Any) -> None:
        """Switch to other work."""
        self._switch("other")

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far, which a resumed run adds to."""
        return self.seconds

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add the seconds of earlier processes."""
        for key, value in state_dict.items():
            self._seconds[key] += value

    def _switch(self, phase: str) -> None:
        """Count the time since the last call to the current phase, and enter another."""
        now = time.monotonic()
        self._seconds[self._phase] += now - self._mark
        self._mark = now
        self._phase = phase
