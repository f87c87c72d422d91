"""A tiny dual encoder with random weights, as a run leaves it and as an exported folder, and a
picture.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gestalt.aggregation import max_of_parts
from gestalt.config.loading import load
from gestalt.config.schema import Experiment, to_yaml
from gestalt.encoders.image import ImageTower
from gestalt.model import DualEncoder, Side
from gestalt.models.folder import save_folder
from gestalt.models.start import build_model

WORDS = (
    "text.family=open_clip",
    "text.init=random",
    "text.layers=1",
    "text.width=16",
    "text.heads=2",
    "text.max_length=16",
)
WITHOUT_LIGHTNING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('lightning', 'pytorch_lightning', 'torchmetrics'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""
"""The beginning of a program for which Lightning is not installed."""

RUN = Path("lightning_logs/clippy_dino_max/small/version_0")
"""At a scale of the user's own, so that a run is plain whose record has no overrides."""


@cache
def tiny() -> tuple[DualEncoder, Experiment]:
    """A model of two blocks, E 32, patches of 8 pixels, images of 32, and its configuration."""
    config = replace(load("clippy_dino_max", scale="tiny", overrides=list(WORDS)), scale="small")
    return build_model(config).eval(), config


def with_image_tower(tower: ImageTower) -> DualEncoder:
    """A model of an image tower; it has no texts."""
    side = Side(tower, None, aggregation=max_of_parts, project_first=True)
    return DualEncoder(side, side)


def export(folder: Path) -> Path:
    """Write it as an exported folder."""
    model, config = tiny()
    return save_folder(model, config, path=folder, provenance={"commit": "unknown"})


def save_run(
    folder: Path, model: DualEncoder | None = None, config: Experiment | None = None, **known: Any
) -> Path:
    """Write it, or another model, as a finished run below a folder, after 8 steps.  The checkpoint
    also holds ``known``.  Returns the run's folder.
    """
    model, config = model or tiny()[0], config or tiny()[1]
    (folder / RUN / "checkpoints").mkdir(parents=True)
    (folder / RUN / "config.yaml").write_text(to_yaml(config))
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    state |= {"terms.nouns.scale": torch.ones(()), "head.bias": torch.zeros(1)}  # of a subclass
    torch.save(
        {"global_step": 8, "gestalt": {"steps_planned": 8, **known}, "state_dict": state},
        folder / RUN / "checkpoints" / "last.ckpt",
    )
    record = {
        "format": 3,
        "steps": 8,
        "steps_planned": 8,
        "overrides": [],
        "metrics": {},
        "benchmarks": [],
        "config": {},
        "arrays": {},
        "experiment": config.name,
        "image_init": {"requested": "random", "resolved": "random"},
        "provenance": {"commit": "unknown", "packages": {}, "machine": {"device": "cpu"}},
    }
    (folder / RUN / "result.json").write_text(json.dumps(record))
    return folder / RUN


def save_photo(path: Path) -> Path:
    """Write a picture of 50 x 33 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
