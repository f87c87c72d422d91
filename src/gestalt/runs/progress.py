"""How far a run is: whether it is finished, and the step of a checkpoint.  Nothing heavy is imported."""

import json
import pickletools
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.config.schema import ConfigError
from gestalt.runs.names import RESULT, run_folder

STEP, PLANNED = "global_step", "steps_planned"
"""Keys of a checkpoint: the steps that were taken, by Lightning, and those that the run has in all."""

NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1")
"""Operations of a pickle that give an integer."""


class Progress(NamedTuple):
    """The steps of a checkpoint, and those of its whole run; None where the files do not say."""

    steps: int | None
    planned: int | None

    def __str__(self) -> str:
        """Return both in words, such as ``step 9 of 900``."""
        return " of ".join(("step unknown" if self.steps is None else f"step {self.steps}", str(self.planned or "an unknown number")))


def is_finished(folder: Path) -> bool:
    """Return True if a run has taken its last step and is recorded; one that ``trainer.max_time`` ended has steps left.

    Raises:
        ConfigError: its record is not JSON.
    """
    record = record_of(folder)
    return record is not None and bool((record.get("steps") or 0) >= (record.get(PLANNED) or 0))


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's ``result.json``, unchecked; None if there is none.

    Raises:
        ConfigError: it is not JSON.
    """
    path = folder / RESULT
    try:
        return dict(json.loads(path.read_text())) if path.is_file() else None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not the JSON of a run ({error}); move it away") from error


def progress(checkpoint: Path) -> Progress:
    """Return the step of a run's checkpoint, and of how many; older checkpoints leave the second to the run's record.

    Raises:
        ConfigError: as ``run_folder`` and ``record_of``.
    """
    found = _integers(checkpoint, (STEP, PLANNED))
    return Progress(found.get(STEP), found.get(PLANNED) or (record_of(run_folder(checkpoint)) or {}).get(PLANNED))


def _integers(checkpoint: Path, keys: tuple[str, ...]) -> dict[str, int]:
    """Return the first integer that follows each key in the pickle of a checkpoint, which is read word by word and never run."""
    found: dict[str, int] = {}
    key = ""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            content = b"".join(map(archive.read, names))
        for operation, value, _ in pickletools.genops(content):
            if isinstance(value, str):
                key = value
            elif isinstance(value, int) and operation.name in NUMBERS and key in keys:
                found.setdefault(key, value)
                key = ""
    except Exception:  # zip and pickle raise many: whoever loads the file says what is wrong with it
        return {}
    return found
