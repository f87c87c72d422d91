"""Which run, and which of its checkpoints, the words of a command line mean.  Nothing heavy is imported."""

import json
from collections.abc import Sequence
from pathlib import Path

from gestalt.config.identity import hashed_keys
from gestalt.config.loading import LOGS, load, load_saved
from gestalt.config.schema import ConfigError

LAST = "last"
"""The name of the newest checkpoint of a run, before its .ckpt."""

METHOD = ("image.", "text.", "projection.", "loss.", "evaluation.split")
"""Keys that make a run a variant of its experiment: by them it is another method, or one that was only tuned.  Of the others a user has
reasons of their own."""


def newest_run(name: str, folders: Sequence[Path]) -> Path:
    """The newest of an experiment's runs.

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
            f"name that folder to mean it, or {plain}, the newest that is none"
        )
    return newest


def only_run(target: str, folders: Sequence[Path]) -> Path:
    """The run that a folder means.

    Args:
        target: the folder, for the message.
        folders: of the runs in it or below it, at least one.

    Raises:
        ConfigError: there are several below it.
    """
    own = [folder for folder in folders if folder == Path(target)]
    if not own and len(folders) > 1:
        raise ConfigError(f"{target}: holds {len(folders)} runs; name one of {', '.join(sorted(map(str, folders)))}")
    return (own or list(folders))[0]


def variations(folder: Path) -> list[str]:
    """In what a run's method is not its experiment's, as ``key=value``; nothing where the experiment is gone or the schema is another."""
    try:
        saved = load_saved(folder / "config.yaml")
        given = ["evaluation.benchmarks=[]"]  # some scales' need a root
        given += [] if saved.data.root is None else [f"data.root={json.dumps(saved.data.root)}"]
        written = load(saved.name, scale=saved.scale, overrides=given)
    except ConfigError:
        return []
    there, here = hashed_keys(saved), hashed_keys(written)
    keys = sorted(key for key in there | here if key.startswith(METHOD))
    return [f"{key}={there.get(key)}" for key in keys if there.get(key) != here.get(key)]


def resolve_checkpoint(target: str) -> Path:
    """A checkpoint from a checkpoint's path, the folder of a run or above a single one, or an experiment's name (its newest at any scale).

    Raises:
        ConfigError: there is none, or there are several; or as ``newest_run``.
    """
    path = Path(target)
    if path.is_file():
        run_folder(path)
        return path
    named = not path.is_dir()
    path = LOGS / target if named else path
    found = sorted(path.glob(f"**/checkpoints/{LAST}.ckpt"), key=lambda file: file.stat().st_mtime)
    if not found:
        known = sorted({str(file.parents[1]) for file in LOGS.glob(f"**/checkpoints/{LAST}.ckpt")})
        raise ConfigError(
            f"{target}: neither a checkpoint, nor a run's folder, nor an experiment with one; runs here: {', '.join(known) or 'none'}"
        )
    folders = [file.parents[1] for file in found]
    return (newest_run if named else only_run)(target, folders) / "checkpoints" / f"{LAST}.ckpt"


def run_folder(checkpoint: Path) -> Path:
    """The run that a checkpoint belongs to.

    Raises:
        ConfigError: no ``config.yaml`` lies beside its folder.
    """
    folder = checkpoint.resolve().parents[1]
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{checkpoint}: no config.yaml in {folder}; a checkpoint lies in <run>/checkpoints")
    return folder
