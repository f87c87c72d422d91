"""The run, and the checkpoint in it, that a word of the command line means.  Nothing heavy is imported."""

import json
from collections.abc import Sequence
from pathlib import Path

from gestalt.config.identity import config_hash, hashed_keys
from gestalt.config.loading import LOGS, load, load_saved
from gestalt.config.schema import ConfigError, Experiment

LAST = "last"
"""The stem of a run's newest checkpoint."""

METHOD_KEYS = ("image.", "text.", "projection.", "loss.", "evaluation.split")
"""Beginnings of the keys that make a run a variant of its experiment: another method, or a run that was tuned on another split."""


def newest_run(name: str, folders: Sequence[Path]) -> Path:
    """Return the newest of an experiment's runs.

    Args:
        name: the experiment, for the message.
        folders: ``<experiment>/<scale>/version_<n>``, from the oldest to the newest, at least one.

    Raises:
        ConfigError: the newest is a variant, such as a cell of a grid, and another run is not: either may be meant.
    """
    newest = folders[-1]
    variant = variations(newest)
    plain = next((folder for folder in reversed(folders) if variant and not variations(folder)), None)
    if plain is not None:
        raise ConfigError(
            f"{name}: its newest run, {newest}, is a variant of the experiment ({' '.join(variant)}); "
            f"choose that folder, or {plain}, the newest that is not a variant"
        )
    return newest


def only_run(target: str, folders: Sequence[Path]) -> Path:
    """Return the run that a folder means.

    Args:
        target: the folder, for the message.
        folders: the runs in it or below it, at least one.

    Raises:
        ConfigError: several runs are below it.
    """
    if Path(target) in folders:
        return Path(target)
    if len(folders) > 1:
        raise ConfigError(f"{target}: holds {len(folders)} runs; name one of {', '.join(sorted(map(str, folders)))}")
    return folders[0]


def variations(folder: Path) -> list[str]:
    """Return the method keys in which a run differs from its experiment, as ``key=value``.

    Empty where the experiment no longer exists or the saved configuration does not fit the schema.
    """
    try:
        saved = load_saved(folder / "config.yaml")
        overrides = ["evaluation.benchmarks=[]"]  # those of some scales need a root
        overrides += [] if saved.data.root is None else [f"data.root={json.dumps(saved.data.root)}"]
        experiment = load(saved.name, scale=saved.scale, overrides=overrides)
    except ConfigError:
        return []
    run, written = hashed_keys(saved), hashed_keys(experiment)
    keys = sorted(key for key in run | written if key.startswith(METHOD_KEYS))
    return [f"{key}={run.get(key)}" for key in keys if run.get(key) != written.get(key)]


def resolve_checkpoint(target: str) -> Path:
    """Return the checkpoint that a target means.

    Args:
        target: a checkpoint, the folder of a run or above a single one, or an experiment's name, for its newest run at any scale.

    Raises:
        ConfigError: no checkpoint, or several; or as ``newest_run``.
    """
    path = Path(target)
    if path.is_file():
        run_folder(path)
        return path
    by_name = not path.is_dir()
    root = LOGS / target if by_name else path
    checkpoints = sorted(root.glob(f"**/checkpoints/{LAST}.ckpt"), key=lambda file: file.stat().st_mtime)
    if not checkpoints:
        known = sorted({str(file.parents[1]) for file in LOGS.glob(f"**/checkpoints/{LAST}.ckpt")})
        raise ConfigError(
            f"{target}: neither a checkpoint, nor a run's folder, nor an experiment with one; runs here: {', '.join(known) or 'none'}"
        )
    folders = [file.parents[1] for file in checkpoints]
    return (newest_run if by_name else only_run)(target, folders) / "checkpoints" / f"{LAST}.ckpt"


def run_folder(checkpoint: Path) -> Path:
    """Return the run that a checkpoint belongs to.

    Raises:
        ConfigError: the run's ``config.yaml`` is missing.
    """
    folder = checkpoint.resolve().parents[1]
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{checkpoint}: not in the checkpoints/ of a run: no config.yaml in {folder}; choose a run or its checkpoint")
    return folder


def is_run_of(folder: Path, config: Experiment) -> bool:
    """Return True if a run's folder was made by this configuration; a run of an older schema was not."""
    try:
        return config_hash(load_saved(folder / "config.yaml")) == config_hash(config)
    except ConfigError:
        return False
