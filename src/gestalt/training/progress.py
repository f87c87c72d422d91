"""Seconds of a run, its speed and memory in the log, and the progress bar."""

import resource
import sys
import time
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.trainer.states import TrainerFn

from gestalt.training.finite import is_logging_step

WINDOW = 20  # steps that the speed is averaged over


class Speed(Callback):
    """Logs ``speed/images_per_second`` and ``speed/memory_gib``.

    Attributes:
        seconds_per_step: mean over the last ``WINDOW`` steps; 0 before the second.
        images_per_second: good samples of all ranks, extrapolated from this one; validation is left
            out.
        seconds_left: estimated time until the run ends.
    """

    def __init__(self) -> None:
        self.seconds_per_step = 0.0
        self.images_per_second = 0.0
        self.seconds_left = 0.0
        self._ends: deque[float] = deque(maxlen=WINDOW + 1)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Restart the average, which would include validation."""
        self._ends.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log, from the second step of an epoch."""
        self._ends.append(time.monotonic())
        if len(self._ends) < 2:
            return
        step = self.seconds_per_step = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        # a list on the host: no wait for the device
        self.images_per_second = batch["place"].count("") * trainer.world_size / step
        self.seconds_left = step * max(
            0, int(trainer.estimated_stepping_batches) - trainer.global_step
        )
        if is_logging_step(trainer):  # a number of the host is copied to the device, which waits
            pl_module.log("speed/images_per_second", self.images_per_second)
            pl_module.log("speed/memory_gib", peak_memory(pl_module.device) / 2**30)


class RunProgressBar(TQDMProgressBar):
    """Progress bar with the loss that was last read, images a second and the time left of the whole
    run.
    """

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 20)
        self.speed = speed

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the values shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if (loss := getattr(pl_module, "last_loss", None)) is not None:
            metrics["loss"] = f"{loss:.3f}"
        metrics["images/s"] = f"{self.speed.images_per_second:.0f}"
        minutes, seconds = divmod(int(self.speed.seconds_left), 60)
        metrics["left"] = f"{minutes}:{seconds:02d}"
        return metrics


def peak_memory(device: torch.device) -> int:
    """Return peak memory in bytes: the accelerator's, or on a CPU this process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


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
        self._switch("training" if trainer.state.fn == TrainerFn.FITTING else "other")

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
