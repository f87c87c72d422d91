"""Gestalt: perceptual grouping in contrastive vision-language models.

``load`` opens a model. ``experiment``, ``build`` and ``train`` train one. The classes are the
parts, for your own Lightning ``Trainer``. All are imported on first use.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gestalt.support.moved import Forward

if TYPE_CHECKING:
    __version__: str
    from gestalt.api import Model, SegmentedImage, load
    from gestalt.data_modules.image_text import ImageTextDataModule
    from gestalt.model import DualEncoder
    from gestalt.runs.experiment import experiment
    from gestalt.runs.module import ContrastiveModule
    from gestalt.runs.run import Run, build
    from gestalt.runs.train import train
    from gestalt.zero_shot import ZeroShot

_PLACES = {
    "Model": "gestalt.api",
    "SegmentedImage": "gestalt.api",
    "load": "gestalt.api",
    "experiment": "gestalt.runs.experiment",
    "Run": "gestalt.runs.run",
    "build": "gestalt.runs.run",
    "train": "gestalt.runs.train",
    "ImageTextDataModule": "gestalt.data_modules.image_text",
    "DualEncoder": "gestalt.model",
    "ContrastiveModule": "gestalt.runs.module",
    "ZeroShot": "gestalt.zero_shot",
}

sys.meta_path.insert(0, Forward())

__all__ = [
    "ContrastiveModule",
    "DualEncoder",
    "ImageTextDataModule",
    "Model",
    "Run",
    "SegmentedImage",
    "ZeroShot",
    "build",
    "experiment",
    "load",
    "train",
]


if not TYPE_CHECKING:  # a type checker would take any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("gestalt-grouping")
        if name in _PLACES:
            return getattr(import_module(_PLACES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
