"""Speed and memory in the log, images a second and time left in the progress bar, and TensorBoard's layout."""

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

WINDOW = 20  # steps that the shown speed is a mean over


class Speed(Callback):
    """Logs ``speed/images_per_second`` (as if all ranks read as this one; bad samples and validation left out) and ``speed/memory_gib``."""

    def __init__(self) -> None:
        self.images_per_second = 0.0
        self.seconds_left = 0.0
        self._ends: deque[float] = deque(maxlen=WINDOW + 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what came before validation."""
        self._ends.clear()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log, from the second step of an epoch on."""
        self._ends.append(time.monotonic())
        if len(self._ends) < 2:
            return
        step = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)  # seconds
        self.images_per_second = batch["place"].count("") * trainer.world_size / step  # lists are read without waiting for the device
        self.seconds_left = step * max(0, int(trainer.estimated_stepping_batches) - trainer.global_step)
        pl_module.log("speed/images_per_second", self.images_per_second)
        pl_module.log("speed/memory_gib", memory_gib(pl_module.device))


class RunProgressBar(TQDMProgressBar):
    """Loss, images a second and the time left of the whole run."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 20)
        self.speed = speed

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        metrics["images/s"] = f"{self.speed.images_per_second:.0f}"
        minutes, seconds = divmod(int(self.speed.seconds_left), 60)
        metrics["left"] = f"{minutes}:{seconds:02d}"
        return metrics


class Board(Callback):
    """TensorBoard's custom scalars page (where, what, speed), and what the run is as text.

    Args:
        benchmarks: the measures of each, by its name.
        text: Markdown, under the tag ``run``.
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
        """Return the charts of the measures that score locations, or of the others; an empty chart would be taken for a fault."""
        return {
            f"{name}: {title}": ["Multiline", [rf"{name}/{pattern}"]]
            for name, measures in self.benchmarks.items()
            for measure in measures
            if MEASURES[measure].locates == locates
            for title, pattern in MEASURES[measure].charts.items()
        }


def memory_gib(device: torch.device) -> float:
    """Peak memory so far in GiB: the accelerator's where there is one, this process's resident set elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
