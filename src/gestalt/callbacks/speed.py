"""Speed and memory in the log, progress bar, and the layout of TensorBoard."""

import resource
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger

from gestalt.evaluation.measures import MEASURES

WINDOW = 20  # steps that the speed is averaged over


class Speed(Callback):
    """Logs ``speed/images_per_second`` and ``speed/memory_gib``.

    Attributes:
        images_per_second: good samples of all ranks, extrapolated from this one; validation is left out.
        seconds_left: of the whole run.
    """

    def __init__(self) -> None:
        self.images_per_second = 0.0
        self.seconds_left = 0.0
        self._ends: deque[float] = deque(maxlen=WINDOW + 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the average, which would include validation."""
        self._ends.clear()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log, from the second step of an epoch."""
        self._ends.append(time.monotonic())
        if len(self._ends) < 2:
            return
        step = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)  # seconds
        self.images_per_second = batch["place"].count("") * trainer.world_size / step  # a list on the host: no wait for the device
        self.seconds_left = step * max(0, int(trainer.estimated_stepping_batches) - trainer.global_step)
        pl_module.log("speed/images_per_second", self.images_per_second)
        pl_module.log("speed/memory_gib", memory_gib(pl_module.device))


class RunProgressBar(TQDMProgressBar):
    """Progress bar with loss, images a second and the time left of the whole run."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 20)
        self.speed = speed

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        metrics["images/s"] = f"{self.speed.images_per_second:.0f}"
        minutes, seconds = divmod(int(self.speed.seconds_left), 60)
        metrics["left"] = f"{minutes}:{seconds:02d}"
        return metrics


class Board(Callback):
    """Writes TensorBoard's custom scalars page (where, what, speed) and a description of the run.

    Args:
        benchmarks: measures of each benchmark, by its name.
        text: description in Markdown, under the tag ``run``.
    """

    def __init__(self, benchmarks: Mapping[str, Sequence[str]], *, text: str) -> None:
        self.benchmarks = benchmarks
        self.text = text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both once."""
        logger = trainer.logger
        if not isinstance(logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        logger.experiment.add_text("run", self.text)
        what = {"loss": ["Multiline", ["train/loss"]], "accuracy in the batch": ["Multiline", ["train/accuracy"]]}
        where = self._charts(locates=True)
        what |= self._charts(locates=False)
        steps = {"images a second": ["Multiline", ["speed/images_per_second"]], "memory, GiB": ["Multiline", ["speed/memory_gib"]]}
        steps |= {name: ["Multiline", [f"train/{name}"]] for name in ("learning_rate", "gradient_norm", "logit_scale")}
        steps |= {"bad samples so far, by reason": ["Multiline", [r"train/bad_samples", r"bad_samples/.*"]]}
        logger.experiment.add_custom_scalars({"where": where, "what": what, "speed and optimisation": steps})

    def _charts(self, *, locates: bool) -> dict[str, list[Any]]:
        """Return the charts of the measures that score locations, or of the others; an empty chart would look like a fault."""
        return {
            f"{name}: {title}": ["Multiline", [rf"{name}/{pattern}"]]
            for name, measures in self.benchmarks.items()
            for measure in measures
            if MEASURES[measure].locates == locates
            for title, pattern in MEASURES[measure].charts.items()
        }


def memory_gib(device: torch.device) -> float:
    """Return peak memory in GiB: the accelerator's, or on a CPU this process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
