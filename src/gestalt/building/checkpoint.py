"""Read the checkpoints of runs without executing code from them, and load them into the model of their configuration."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from gestalt.building.model import build_model, used_init
from gestalt.config.schema import Experiment, uses_made
from gestalt.encoders.checkpoints import check_fit, read_checkpoint
from gestalt.model import DualEncoder


def load_model(checkpoint: Path, config: Experiment) -> DualEncoder:
    """Build the model of a configuration, with the weights of a run's checkpoint.

    Raises:
        ValueError: the checkpoint cannot be read, or its weights do not fit the configuration.
    """
    state = read_checkpoint(checkpoint)["state_dict"]  # refused before the seconds that the model takes
    fresh = replace(config, image=replace(config.image, init="random", inits={}, weights=None))  # the checkpoint holds the weights
    model = build_model(fresh)
    of_model = {str(name): value for name, value in state.items() if not str(name).startswith("terms.")}  # those serve training only
    weights = {name.removeprefix("model."): value for name, value in of_model.items() if isinstance(value, Tensor)}
    misfit = f"{checkpoint} does not fit the model of its config.yaml, with the command line's changes"
    check_fit(weights, model.state_dict(), misfit=misfit)
    model.load_state_dict(weights)
    used = config.image.init if uses_made(config) else used_init(config)
    model.image_tower.origin = replace(model.image_tower.origin, init=used, source=f"checkpoint {checkpoint}")
    return model
