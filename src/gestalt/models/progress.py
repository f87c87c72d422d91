"""How far a run is: whether it is finished, and the step of a checkpoint."""

from pathlib import Path
from typing import NamedTuple

from gestalt.models.names import RESULT
from gestalt.support.json_files import Fields, read_json
from gestalt.support.typed import ConfigError

PLANNED = "steps_planned"
"""Key of a checkpoint and of a record: the steps that the run has in all."""


class Progress(NamedTuple):
    """The steps of a checkpoint, and those of its whole run; None where the files do not say."""

    steps: int | None
    planned: int | None

    def __str__(self) -> str:
        """Return both in words, such as ``step 9 of 900``."""
        step = "unknown" if self.steps is None else self.steps
        return f"step {step} of {self.planned or 'an unknown number'}"


def is_finished(folder: Path) -> bool:
    """Return True if a run has taken its last step and is recorded; one that ``trainer.max_time``
    ended has steps left.

    Raises:
        ConfigError: its record is not JSON.
    """
    record = record_of(folder / RESULT)
    return record is not None and bool((record.get("steps") or 0) >= (record.get(PLANNED) or 0))


def record_of(path: Path) -> Fields | None:
    """Return the content of a record, of which only what tells how far its run is was checked;
    None if the file is missing.

    Raises:
        ConfigError: it is not JSON, or a value has another type.
    """
    if not path.exists():
        return None
    try:
        return read_json(path, "run")
    except ValueError as error:
        raise ConfigError(f"{path}: not the JSON of a run ({error}); move it away") from error


def progress(checkpoint: Path) -> Progress:
    """Return the step of a run's checkpoint, and of how many.

    Raises:
        ValueError: the checkpoint cannot be read.
    """
    from gestalt.encoders.checkpoints import read_checkpoint  # which imports torch

    return progress_of(read_checkpoint(checkpoint))


def progress_of(saved: Fields) -> Progress:
    """Return the step of the content of a run's checkpoint, and of how many."""
    return Progress(saved.get("global_step"), saved.get("gestalt", {}).get(PLANNED))
