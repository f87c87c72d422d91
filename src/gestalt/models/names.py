"""Kinds of words that name a model or a run, the files of a run, and how far it is.  Nothing heavy
is imported.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gestalt.config.folders import LOGS
from gestalt.config.saved import load_mapping, load_saved
from gestalt.config.schema import Experiment, config_hash
from gestalt.config.trust import TRUSTED, Places, places_of
from gestalt.models.zoo.kinds import EXTERNAL, how_to_open
from gestalt.support.files import Fields, read_json
from gestalt.support.names import nearest, suggestion
from gestalt.support.typed import ConfigError
from gestalt.training.keys import LAST

Overrides = tuple[str, ...]
"""``key=value`` words of a run."""

CHECKPOINT = Path("checkpoints") / f"{LAST}.ckpt"
"""A run's newest checkpoint, in its folder."""

RESULT = "result.json"
"""The record of a finished run, in its folder; ``evaluations/<n>.json`` are those of
evaluations.
"""

WEIGHTS = "model.safetensors"
DESCRIPTION = "config.json"
"""Files of an exported model, in its folder."""

_NOT_OURS = "neither a run's folder, nor its checkpoint, nor an exported folder"


def external_name(target: str) -> tuple[str, str] | None:
    """Return kind and name of an external model, ``kind:name`` or, as it was first written,
    ``zoo:kind:name``; None for any other.

    Raises:
        ConfigError: an empty word, ``zoo:`` with an unknown kind, a misspelt kind, or a kind
            without a name.
    """
    if not target.strip():
        raise ConfigError("the name of the model is empty; name a run, a folder or KIND:NAME")
    kind, colon, name = target.removeprefix("zoo:").partition(":")
    misspelt = bool(suggestion(kind, EXTERNAL)) and not Path(target).exists()
    if not target.startswith("zoo:") and not (colon and (kind in EXTERNAL or misspelt)):
        return None
    if kind not in EXTERNAL or not name:
        kinds = ", ".join(f"{known}:NAME" for known in EXTERNAL)
        raise ConfigError(f"{target}: other models are {kinds}; {nearest(kind, list(EXTERNAL))}")
    return kind, name


def exported_folder(target: str) -> Path | None:
    """Return the folder of an exported model that a target names; None for anything else.

    Raises:
        ConfigError: the folder of a model that Gestalt did not write.
    """
    folder = Path(target)
    whole = (folder / WEIGHTS).is_file() and (folder / DESCRIPTION).is_file()
    try:
        keys = read_json(folder / DESCRIPTION, "object")
    except (OSError, ValueError):  # reading it as an exported model says why
        keys = {}
    mend = how_to_open(target, [*keys, *(path.name for path in folder.glob("*"))])
    if "library" not in keys and (mend != how_to_open(target) or (whole and keys)):
        raise ConfigError(f"{target}: {_NOT_OURS}; {mend}")
    return folder if whole else None


def is_hub_name(target: str) -> bool:
    """Return True if a target can only be the name of a model on the Hugging Face hub,
    ``org/name``.
    """
    plain = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", target, flags=re.ASCII)
    here = Path(target).parent.exists() or (LOGS / target).exists()
    return bool(plain) and not here


def runs_of(name: str, scale: str) -> list[Path]:
    """Return the folders of an experiment's runs at a scale, from the oldest to the newest."""
    folders = filter(lambda path: number_of(path) >= 0, (LOGS / name / scale).glob("version_*"))
    return sorted(folders, key=number_of)


def number_of(path: Path) -> int:
    """Return the number of ``version_<n>`` or ``<n>.json``; -1 for any other path."""
    number = re.fullmatch(r"version_(\d+)|(\d+)\.json", path.name)
    return int(number[1] or number[2]) if number else -1


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; None if a Trainer wrote it elsewhere,
    or beside a configuration of Lightning's command line.
    """
    folder = checkpoint.resolve().parent.parent
    file = folder / "config.yaml"
    if not file.is_file() or file.read_text(encoding="utf-8").startswith("# lightning"):
        return None
    return folder


def is_own(checkpoint: Path, run: Path | None) -> bool:
    """Return True if a checkpoint is of a run below ``lightning_logs`` of the working directory, as
    it is written or with symbolic links followed.
    """
    return run is not None and any(
        Path(form(LOGS)) in Path(form(checkpoint)).parents
        for form in (os.path.abspath, os.path.realpath)
    )


def unnamed_places(
    checkpoint: Path, run: Path | None, config: Experiment, words: Sequence[str]
) -> Places:
    """Return the places that only a checkpoint's configuration names; the user's own run is
    trusted.

    Raises:
        ConfigError: see ``places_of``.
    """
    if is_own(checkpoint, run):
        return TRUSTED
    return places_of(config, words, origin=str(checkpoint))


def run_folder(checkpoint: Path) -> Path:
    """Return the run that a checkpoint belongs to.

    Raises:
        ConfigError: the run's ``config.yaml`` is missing.
    """
    run = run_of(checkpoint)
    if run is None:
        raise ConfigError(
            f"{checkpoint}: not in the checkpoints/ of a run: no config.yaml in "
            f"{checkpoint.resolve().parent.parent}; choose a run or its checkpoint; one of your "
            "own Trainer resumes by its fit(ckpt_path=...), or starts a new run by start=FILE"
        )
    return run


def config_of(checkpoint: Path, run: Path | None, *, overrides: Sequence[str] = ()) -> Experiment:
    """Return the configuration of the run that a checkpoint is of, with further overrides: that in
    the run's folder, or else in the checkpoint, for which torch is imported.

    Raises:
        ConfigError: there is none, it does not fit the schema, or Gestalt did not write the file.
    """
    if run is not None:
        return load_saved(run / "config.yaml", overrides=overrides)
    from gestalt.encoders.checkpoints import config_in, read_checkpoint

    # its checksums are read with its weights
    saved = read_checkpoint(checkpoint, keys=(), verified=True)
    if "gestalt" not in saved:
        mend = how_to_open(str(checkpoint), map(str, saved.get("state_dict", saved)))
        raise ConfigError(f"{checkpoint}: {_NOT_OURS}; {mend}")
    return load_mapping(config_in(saved, checkpoint), origin=checkpoint, overrides=overrides)


def saved_hash(folder: Path, words: Overrides = ()) -> str | None:
    """Return the hash of a run's saved configuration with further overrides; None if it is missing
    or of another schema.
    """
    path = folder / "config.yaml"
    return _hash_of_file(path, path.stat().st_mtime_ns, words) if path.is_file() else None


@lru_cache(maxsize=4096)
def _hash_of_file(path: Path, time: int, words: Overrides) -> str | None:
    try:
        return config_hash(load_saved(path, overrides=words))
    except ConfigError:
        return None


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
    return record is not None and has_ended(record)


def has_ended(record: Fields) -> bool:
    """Return True if a run has taken its last step, by its record."""
    return bool((record.get("steps") or 0) >= (record.get(PLANNED) or 0))


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
