"""Find the checkpoint that a run resumes from.  Nothing heavy is imported, so that a wrong one is
refused at once.
"""

from pathlib import Path

from gestalt.config.loading import LOGS, load_saved
from gestalt.config.schema import Experiment, config_hash
from gestalt.models.finding import differences, resolve_checkpoint
from gestalt.models.names import CHECKPOINT, is_finished, run_folder, runs_of, saved_hash
from gestalt.support.typed import ConfigError

DIVERGED = "diverged.txt"
"""A note in the folder of a run that stopped because its loss was not finite."""


def resolve_resume(config: Experiment) -> Path | None:
    """Return the checkpoint that ``resume`` means; None for a new run.

    Raises:
        ConfigError: no checkpoint, or one of another configuration; the message names the keys that
            differ.
    """
    if config.resume is None:
        return None
    if config.resume == "last":
        return _newest_match(config)
    if config.resume == "auto":
        return _unfinished_run(config)
    if not Path(config.resume).exists():
        raise ConfigError(
            f"resume={config.resume}: no such folder or checkpoint; name one, or write resume=last "
            "for the newest run"
        )
    return _matching(resolve_checkpoint(config.resume), config)


def _newest_match(config: Experiment) -> Path:
    runs = [
        folder for folder in runs_of(config.name, config.scale) if (folder / CHECKPOINT).exists()
    ]
    if not runs:
        raise ConfigError(
            f"resume=last: no checkpoint under {LOGS / config.name / config.scale}; start without "
            "resume"
        )
    same = [folder for folder in runs if saved_hash(folder) == config_hash(config)]
    return _matching((same or runs)[-1] / CHECKPOINT, config)


def _unfinished_run(config: Experiment) -> Path | None:
    """Return the last checkpoint of the only unfinished run of this configuration; None if there is
    none.  Runs that diverged do not count.

    A run is unfinished while it has a checkpoint and no ``result.json``, or one that
    ``trainer.max_time`` ended before its last step.

    Raises:
        ConfigError: several runs are unfinished, and the configuration does not tell which is
            meant; or the newest run diverged.
    """
    runs = [
        folder
        for folder in runs_of(config.name, config.scale)
        if saved_hash(folder) == config_hash(config)
    ]
    unfinished = [
        folder
        for folder in runs
        if (folder / CHECKPOINT).exists()
        and not (folder / DIVERGED).exists()
        and not is_finished(folder)
    ]
    if runs and (note := runs[-1] / DIVERGED).exists():
        reason = note.read_text().strip()
        raise ConfigError(
            f"resume=auto: {runs[-1]} stopped: {reason}. Change the configuration, or continue "
            f"with resume={runs[-1]}"
        )
    if len(unfinished) > 1:
        names = ", ".join(map(str, unfinished))
        raise ConfigError(
            f"resume=auto: {len(unfinished)} runs of this configuration are unfinished: {names}; "
            "name one with resume=FOLDER"
        )
    return unfinished[0] / CHECKPOINT if unfinished else None


def _matching(checkpoint: Path, config: Experiment) -> Path:
    """Return a checkpoint of this configuration.

    Raises:
        ConfigError: it is of another; names the keys that differ.
    """
    saved = load_saved(run_folder(checkpoint) / "config.yaml")
    found = [
        f"{key}: {value} saved, {given} given"
        for key, (value, given) in differences(saved, config).items()
    ]
    if found:
        raise ConfigError(
            f"resume={config.resume}: {checkpoint} is of another configuration: "
            f"{'; '.join(found)}; give the saved values, or start without resume"
        )
    return checkpoint
