"""TensorBoard: the tags of a run's metrics, its description, its hyperparameters and pictures.

TensorBoard sorts charts by their tags, groups them by the part before the first slash, and opens
the first two groups.  A tag is therefore a numbered group and the key under which a metric is
logged: ``1 overview/train/loss``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.tensorboard.summary import hparams

from gestalt.support.files import replacing
from gestalt.support.keys import Keys
from gestalt.training.progress import WINDOW, Speed

COLUMNS = {
    "image.aggregation": "Aggregation",
    "image.init": "Init",
    "scale": "Scale",
    "seed": "Seed",
}
"""Keys that tell runs apart -> their columns on the HParams page, which capitals put first."""


# the groups of tags, in the order of the board
OVERVIEW = "1 overview"
SCORES = "2 scores"
TRAINING = "3 training"
PICTURES = "4 pictures"
CLASSES = "5 classes"

FIRST_OF_TRAINING = ("train/loss", "speed/images_per_second")
FIRST_SCORES = ("miou", "accuracy", "recall_at_10")
"""Metrics of the overview: keys of training, and names of a benchmark's metrics."""

TRAINING_KEYS = ("train", "speed", "bad_samples", "epoch")
"""First parts of the keys that training logs; those of scores are names of benchmarks."""


def board_tag(key: str) -> str:
    """Return the tag under which TensorBoard has the metric of a key."""
    first, _, name = key.partition("/")
    if "/iou/" in key:
        return f"{CLASSES}/{key}"
    if first in TRAINING_KEYS:
        return f"{OVERVIEW if key in FIRST_OF_TRAINING else TRAINING}/{key}"
    return f"{OVERVIEW if name in FIRST_SCORES else SCORES}/{key}"


class BoardLogger(TensorBoardLogger):
    """TensorBoard's logger of a run: metrics by the tags of ``board_tag``."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics by their tags."""
        super().log_metrics({board_tag(key): value for key, value in metrics.items()}, step)


class Board(Callback):
    """Describes the run on TensorBoard's Text page, under the tag ``run``.

    Args:
        text: description in Markdown; the machine is added, and once it is known the time of a
            step.
        speed: measures that time.
    """

    def __init__(self, text: str, *, speed: Speed) -> None:
        self.text = text
        self.speed = speed
        self._timed = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the description with the machine."""
        ranks = trainer.world_size
        self._add(
            trainer,
            f"{ranks} {'rank' if ranks == 1 else 'ranks'} on {pl_module.device.type}, CPU "
            f"threads of a rank: {torch.get_num_threads()}",
        )

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Add the time of a step once, after the first validation that follows a logged step."""
        if not self._timed and "train/loss" in trainer.logged_metrics:
            self._timed = True
            step = self.speed.seconds_per_step
            self._add(trainer, f"a step took {step:.3f} s, mean of the last {WINDOW} at most")

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Add the time of a step of a run that was not validated."""
        self.on_validation_end(trainer)

    def _add(self, trainer: Trainer, line: str) -> None:
        self.text += f"  \n{line}"
        if isinstance(trainer.logger, BoardLogger):
            trainer.logger.experiment.add_text("run", self.text, trainer.global_step)


def write_hyperparameters(trainer: Trainer, keys: Keys, *, metrics: Sequence[str]) -> None:
    """Write a run's row on TensorBoard's HParams page, with the metrics whose last logged value
    stands in it; on the first rank.

    Lightning's own way logs the metrics once more, at a step of their own.  Every run has the same
    ``keys``, flat, with null and lists as text: TensorBoard's parallel coordinates leave out a run
    that lacks a key.  It sorts columns by name and shows the first five, so those that tell runs
    apart have capitals (``COLUMNS``).
    """
    logger = trainer.logger
    if isinstance(logger, TensorBoardLogger):
        first = {COLUMNS.get(key, key): value for key, value in keys.items()}
        values = {
            key: value if isinstance(value, str | int | float) else json.dumps(value)
            for key, value in {**first, "Steps": trainer.global_step}.items()
        }
        logger.log_hyperparams(values)
        writer = logger.experiment._get_file_writer()  # opened anew: the end of training closed it
        for summary in hparams(values, dict.fromkeys(map(board_tag, metrics), 0.0)):  # type: ignore[no-untyped-call]
            writer.add_summary(summary, trainer.global_step)
        logger.save()


LEVEL = 1
"""Compression level of zlib: files are 18 % larger than at its default, 6, and written in 0.4 of
the time.
"""


def write_picture(trainer: Trainer, *, picture: Image.Image, tag: str, stem: str) -> None:
    """Write a picture to the loggers that take some under ``tag``, "<benchmark>/<name>", and to
    ``<log_dir>/pictures/<benchmark>/<stem>.png``.

    Only on the first rank.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(
                f"{PICTURES}/{tag}", np.array(picture), trainer.global_step, dataformats="HWC"
            )
        elif callable(log_image := getattr(logger, "log_image", None)):  # wandb's
            log_image(key=tag, images=[picture], step=trainer.global_step)
    for folder in log_folders(trainer):
        path = folder / "pictures" / tag.partition("/")[0] / f"{stem.replace('/', '_')}.png"
        with replacing(path) as partial:
            picture.save(partial, "PNG", compress_level=LEVEL)


def log_folders(trainer: Trainer) -> list[Path]:
    """Return the folder that the first logger with one writes to; empty if none has."""
    folders = [getattr(logger, "log_dir", None) for logger in trainer.loggers]
    return [Path(folder) for folder in folders if isinstance(folder, str)][:1]
