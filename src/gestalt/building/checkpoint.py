"""Read the checkpoints of runs without executing code from them, and load them into the model of their configuration."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from gestalt.building.model import build_model, image_weights
from gestalt.config.schema import Experiment
from gestalt.encoders.checkpoints import check_fit, read_checkpoint
from gestalt.encoders.whole import AGAIN, beside
from gestalt.model import DualEncoder
from gestalt.results.record import read_record
from gestalt.runs.names import CHECKPOINT, RESULT, run_folder
from gestalt.runs.progress import is_finished


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
    used, _ = image_weights(config)
    model.image_tower.origin = replace(model.image_tower.origin, init=used, source=f"checkpoint {checkpoint}")
    return model


def check_recorded(checkpoint: Path, *, sha256: str) -> None:
    """Check that a checkpoint of a finished run is the file that the run's record was written with.

    Raises:
        ValueError: it is another file, or the record cannot be read.
    """
    folder = run_folder(checkpoint)
    record = read_record(folder / RESULT) if (folder / RESULT).is_file() else {}
    if not record or not is_finished(folder) or checkpoint.resolve().parent != folder / CHECKPOINT.parent:
        return  # a run that goes on writes other files, and a copy elsewhere may be an earlier one
    known = {CHECKPOINT.name: record.get("checkpoint_sha256"), **record.get("checkpoints", {})}
    expected = known.get(checkpoint.resolve().name)
    if expected not in (None, sha256):
        raise ValueError(
            f"{checkpoint}: damaged or replaced: its SHA-256 is {sha256[:12]}, {folder / RESULT} has {str(expected)[:12]}; "
            f"{AGAIN}, or train again{beside(checkpoint)}"
        )
