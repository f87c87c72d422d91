"""Pictures of a run, in TensorBoard and as PNG files."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from gestalt.callbacks.board import PICTURES
from gestalt.support.files import replacing

LEVEL = 1
"""Compression level of zlib: files are 18 % larger than at its default, 6, and written in 0.4 of the time."""


def write_picture(trainer: Trainer, *, picture: Image.Image, tag: str, stem: str) -> None:
    """Write a picture to the loggers that take some under ``tag``, "<set>/<name>", and to ``<log_dir>/pictures/<set>/<stem>.png``.

    Only on the first rank.
    """
    content = encoded(picture)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _add_image(logger.experiment, f"{PICTURES}/{tag}", content, picture=picture, step=trainer.global_step)
        elif callable(log_image := getattr(logger, "log_image", None)):  # wandb's
            log_image(key=tag, images=[picture], step=trainer.global_step)
    for folder in log_folders(trainer)[:1]:
        path = folder / "pictures" / tag.partition("/")[0] / f"{stem.replace('/', '_')}.png"
        with replacing(path) as partial:
            partial.write_bytes(content)


def encoded(picture: Image.Image) -> bytes:
    """Return a picture as a PNG."""
    content = BytesIO()
    picture.save(content, "PNG", compress_level=LEVEL)
    return content.getvalue()


def _add_image(writer: Any, tag: str, content: bytes, *, picture: Image.Image, step: int) -> None:
    """Write an encoded PNG to TensorBoard; ``add_image``, which would encode it again, is used only to reopen a closed writer."""
    if writer.file_writer is None:
        writer.add_image(tag, np.array(picture), step, dataformats="HWC")
        return
    from tensorboard.compat.proto.summary_pb2 import Summary

    image = Summary.Image(height=picture.height, width=picture.width, colorspace=len(picture.getbands()), encoded_image_string=content)
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def log_folders(trainer: Trainer) -> list[Path]:
    """Return the folders that the loggers write to."""
    return [Path(folder) for folder in (getattr(logger, "log_dir", None) for logger in trainer.loggers) if isinstance(folder, str)]
