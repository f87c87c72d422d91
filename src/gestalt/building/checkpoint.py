"""Checkpoints of a run: read without running code, and loaded into the model of their config."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gestalt.building.model import build_model, used_init
from gestalt.config.schema import Experiment, uses_made
from gestalt.model import DualEncoder


def load_model(checkpoint: Path, config: Experiment) -> DualEncoder:
    """The dual encoder of a checkpoint of ours.

    Raises:
        ValueError: the weights do not fit the config.
    """
    fresh = replace(config, image=replace(config.image, init="random", inits={}, weights=None))  # the checkpoint holds the weights
    model = build_model(fresh)
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {name.removeprefix("model."): value for name, value in state.items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{checkpoint}: does not fit the model of its config.yaml with what the command line changes of it: {why}"
        ) from error
    used = config.image.init if uses_made(config) else used_init(config)
    model.image_tower.origin = replace(model.image_tower.origin, init=used, source=f"checkpoint {checkpoint}")  # not the fresh ones
    return model


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU, without running code from it.

    Raises:
        ValueError: it is cut off, or no checkpoint of a run.
    """
    others = [str(path) for path in sorted(checkpoint.parent.glob("*.ckpt")) if path != checkpoint]
    instead = f"; beside it lies {', '.join(others)}" if others else ""
    try:
        saved: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, OSError, ValueError, TypeError, AttributeError) as error:
        kind = type(error).__name__  # torch's own words advise to run what the file holds
        raise ValueError(f"{checkpoint}: cannot be read, it is cut off or no checkpoint ({kind}){instead}") from error
    if not isinstance(saved, dict) or "state_dict" not in saved:
        raise ValueError(f"{checkpoint}: is no checkpoint of a run, it has no state_dict{instead}")
    return saved
