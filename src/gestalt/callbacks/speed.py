"""Speed and memory in the log, progress bar, and the layout of TensorBoard."""

import json
import re
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
from torch.utils.tensorboard.summary import hparams

from gestalt.callbacks.reading import is_read
from gestalt.config.identity import hashed_keys
from gestalt.config.schema import Experiment
from gestalt.evaluation.measures import MEASURES

WINDOW = 20  # steps that the speed is averaged over


class Speed(Callback):
    """Logs ``speed/images_per_second`` and ``speed/memory_gib``.

    Attributes:
        images_per_second: good samples of all ranks, extrapolated from this one; validation is left out.
        seconds_left: estimated time until the run ends.
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
        if is_read(trainer):  # a number of the host is copied to the device, which waits
            pl_module.log("speed/images_per_second", self.images_per_second)
            pl_module.log("speed/memory_gib", memory_gib(pl_module.device))


class RunProgressBar(TQDMProgressBar):
    """Progress bar with the loss that was last read, images a second and the time left of the whole run."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 20)
        self.speed = speed

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        """Return the values shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if (loss := getattr(pl_module, "last_loss", None)) is not None:
            metrics["loss"] = f"{loss:.3f}"
        metrics["images/s"] = f"{self.speed.images_per_second:.0f}"
        minutes, seconds = divmod(int(self.speed.seconds_left), 60)
        metrics["left"] = f"{minutes}:{seconds:02d}"
        return metrics


class Board(Callback):
    """Writes TensorBoard's custom scalars page (where, what, speed) and a description of the run.

    A chart shows one metric, so that each of its lines is a run and the colour tells which: TensorBoard gives all lines of a run the same
    colour.  A metric between its baselines is a line in a band.

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
        where, what = self._charts(locates=True), self._charts(locates=False)
        what = {"loss": _chart("train/loss"), "accuracy in the batch": _chart("train/accuracy"), **what}
        steps = {"images a second": _chart("speed/images_per_second"), "memory, GiB": _chart("speed/memory_gib")}
        steps |= {name.replace("_", " "): _chart(f"train/{name}") for name in ("learning_rate", "gradient_norm", "logit_scale")}
        steps["bad samples so far"] = _chart("train/bad_samples")
        logger.experiment.add_custom_scalars({"where": where, "what": what, "speed and optimisation": steps})

    def _charts(self, *, locates: bool) -> dict[str, list[Any]]:
        """Return the charts of the measures that score locations, or of the others; an empty chart would look like a fault."""
        return {
            f"{name}: {title}": _chart(*(f"{name}/{metric}" for metric in metrics))
            for name, measures in self.benchmarks.items()
            for measure in measures
            if MEASURES[measure].locates == locates
            for title, metrics in MEASURES[measure].charts.items()
        }


def _chart(*tags: str) -> list[Any]:
    """Return the chart of one tag; or of a value, the lower and the upper end of its band."""
    return ["Margin", list(tags)] if len(tags) == 3 else ["Multiline", [f"{re.escape(tags[0])}$"]]


def write_hyperparameters(trainer: Trainer, config: Experiment, *, metrics: Sequence[str]) -> None:
    """Write a run's row on TensorBoard's HParams page, with the metrics whose last logged value stands in it; on the first rank.

    Lightning's own way logs the metrics once more, at a step of their own, and a band needs the same steps as its line.
    """
    logger = trainer.logger
    if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
        values = hyperparameters(config, steps=trainer.global_step)
        logger.log_hyperparams(values)
        writer = logger.experiment._get_file_writer()  # opened anew: the end of training closed it
        for summary in hparams(values, dict.fromkeys(metrics, 0.0)):  # type: ignore[no-untyped-call]
            writer.add_summary(summary, trainer.global_step)
        logger.save()


def hyperparameters(config: Experiment, *, steps: int) -> dict[str, str | int | float | bool]:
    """Return the same keys for every run, null and lists as text: TensorBoard's parallel coordinates leave out a run that lacks a key.

    TensorBoard sorts columns by name and shows the first five, so those that tell runs apart have capitals.
    """
    keys = {key: value for key, value in hashed_keys(config).items() if not key.startswith("pretraining.")}
    first = {"Aggregation": keys.pop("image.aggregation"), "Init": keys.pop("image.init"), "Scale": keys.pop("scale")}
    first |= {"Seed": keys.pop("seed"), "Steps": steps}
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in {**first, **keys}.items()}


def memory_gib(device: torch.device) -> float:
    """Return peak memory in GiB: the accelerator's, or on a CPU this process's resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
