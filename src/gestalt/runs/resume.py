"""Find the checkpoint to resume a run from.  Nothing heavy is imported, so that a wrong checkpoint
is refused at once.
"""

from dataclasses import replace
from pathlib import Path

from gestalt.config.folders import LOGS
from gestalt.config.saved import load_saved
from gestalt.config.schema import Experiment, config_hash
from gestalt.models.finding import differences, resolve_checkpoint
from gestalt.models.names import CHECKPOINT, is_finished, run_folder, runs_of, saved_hash
from gestalt.support.typed import ConfigError
from gestalt.training.keys import ADAMW_EPS

DIVERGED = "diverged.txt"
"""File that is written to the folder of a run whose loss was not finite."""


def resolve_resume(config: Experiment) -> Path | None:
    """Return the checkpoint that ``resume`` selects; None for a new run.  If ``optimizer.eps`` is
    null, it is set to the saved value of the run.

    Raises:
        ConfigError: there is no checkpoint, or it has another configuration.  The message names the
            keys that differ.
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
    return _matching(resolve_checkpoint(config.resume, to_resume=True), config)


def _newest_match(config: Experiment) -> Path:
    runs = [
        folder for folder in runs_of(config.name, config.scale) if (folder / CHECKPOINT).exists()
    ]
    if not runs:
        raise ConfigError(
            f"resume=last: no checkpoint under {LOGS / config.name / config.scale}; start without "
            "resume"
        )
    hashes = _hashes(config)
    same = [folder for folder in runs if saved_hash(folder) in hashes]
    return _matching((same or runs)[-1] / CHECKPOINT, config)


def _unfinished_run(config: Experiment) -> Path | None:
    """Return the last checkpoint of the only unfinished run of this configuration; None if there is
    none.  Runs that diverged do not count.

    A run is unfinished if it has a checkpoint but no ``result.json``, or if ``trainer.max_time``
    ended it before its last step.

    Raises:
        ConfigError: the configuration has several unfinished runs; or the newest run diverged.
    """
    hashes = _hashes(config)
    runs = [folder for folder in runs_of(config.name, config.scale) if saved_hash(folder) in hashes]
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
    return _matching(unfinished[0] / CHECKPOINT, config) if unfinished else None


def _hashes(config: Experiment) -> set[str]:
    """Return the hash of a configuration.  If ``optimizer.eps`` is null, also return the hash that
    it had in 0.3.0, when every optimiser used the eps of AdamW.
    """
    optimizer = replace(config.optimizer, eps=config.optimizer.eps or ADAMW_EPS)
    return {config_hash(config), config_hash(replace(config, optimizer=optimizer))}


def _matching(checkpoint: Path, config: Experiment) -> Path:
    """Check that a checkpoint has this configuration, and return it.  If ``optimizer.eps`` is null,
    it is set to the saved value.

    Raises:
        ConfigError: the checkpoint has another configuration; names the keys that differ.
    """
    saved = load_saved(run_folder(checkpoint) / "config.yaml")
    if config.optimizer.eps is None:
        config.optimizer.eps = saved.optimizer.eps
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
