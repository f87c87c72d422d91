"""Pictures of a run, in TensorBoard and as PNG files."""

from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from gestalt.support.files import replacing
from gestalt.training.tags import PICTURES

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
