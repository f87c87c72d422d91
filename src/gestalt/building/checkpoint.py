"""Read the checkpoints of runs without executing code from them, and load them into the model of their configuration."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gestalt.building.model import build_model, used_init
from gestalt.config.schema import Experiment, uses_made
from gestalt.model import DualEncoder


def load_model(checkpoint: Path, config: Experiment) -> DualEncoder:
    """Build the model of a configuration, with the weights of a run's checkpoint.

    Raises:
        ValueError: the checkpoint cannot be read, or its weights do not fit the configuration.
    """
    fresh = replace(config, image=replace(config.image, init="random", inits={}, weights=None))  # the checkpoint holds the weights
    model = build_model(fresh)
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {name.removeprefix("model."): value for name, value in state.items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"{checkpoint}: does not fit the model of its config.yaml, with the command line's changes: {why}") from error
    used = config.image.init if uses_made(config) else used_init(config)
    model.image_tower.origin = replace(model.image_tower.origin, init=used, source=f"checkpoint {checkpoint}")
    return model


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running code from it.

    Raises:
        ValueError: it is truncated, or not a checkpoint of a run; the message names the checkpoints beside it.
    """
    siblings = [str(path) for path in sorted(checkpoint.parent.glob("*.ckpt")) if path != checkpoint]
    hint = f"; in the same folder: {', '.join(siblings)}" if siblings else ""
    try:
        saved: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, OSError, ValueError, TypeError, AttributeError) as error:
        kind = type(error).__name__  # torch's own message suggests to allow running code from the file
        raise ValueError(f"{checkpoint}: cannot be read, truncated or not a checkpoint ({kind}){hint}") from error
    if not isinstance(saved, dict) or "state_dict" not in saved:
        raise ValueError(f"{checkpoint}: not a checkpoint of a run, it has no state_dict{hint}")
    return saved
