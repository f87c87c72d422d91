"""Find the run, or its checkpoint, that a word of the command line names.  Nothing heavy is imported."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from gestalt.config.identity import config_hash, hashed_keys
from gestalt.config.loading import LOGS, load, load_saved
from gestalt.config.schema import ConfigError
from gestalt.support.names import nearest

LAST = "last"
"""The stem of a run's newest checkpoint."""

CHECKPOINT = Path("checkpoints") / f"{LAST}.ckpt"
"""A run's newest checkpoint, in its folder."""

RESULT = "result.json"
"""The record of a finished run, in its folder; ``evaluations/<n>.json`` are those of evaluations."""

METHOD_KEYS = ("image.", "text.", "projection.", "loss.", "evaluation.split")
"""Prefixes of the keys that make a run a variant of its experiment: another method, or a run that was tuned on another split."""


WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
"""Files of an exported model, in its folder."""

GUEST_KINDS = ("clippy", "hf", "open_clip", "python", "timm")
"""Kinds of other people's models, named as ``kind:name``; ``zoo/kinds.py`` has their adapters."""


def guest_of(target: str) -> tuple[str, str] | None:
    """Return kind and name of another model, ``kind:name`` or, as it was first written, ``zoo:kind:name``; None for a run of ours.

    Raises:
        ConfigError: ``zoo:`` with an unknown kind, or a kind without a name.
    """
    kind, colon, name = target.removeprefix("zoo:").partition(":")
    if not target.startswith("zoo:") and not (colon and kind in GUEST_KINDS):
        return None
    if kind not in GUEST_KINDS or not name:
        kinds = ", ".join(f"{known}:NAME" for known in GUEST_KINDS)
        raise ConfigError(f"{target}: other models are {kinds}; {nearest(kind, list(GUEST_KINDS))}")
    return kind, name


def exported_folder(target: str) -> Path | None:
    """Return the folder of an exported model that a target names; None for anything else."""
    folder = Path(target)
    return folder if (folder / WEIGHTS).is_file() and (folder / DESCRIPTION).is_file() else None


def hub_name(target: str) -> str | None:
    """Return the target if it can only be the name of a model on the Hugging Face hub, ``org/name``; None for anything else."""
    plain = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", target, flags=re.ASCII)
    return target if plain and not Path(target).parent.exists() and not (LOGS / target).exists() else None


def runs_of(name: str, scale: str) -> list[Path]:
    """Return the folders of an experiment's runs at a scale, from the oldest to the newest."""
    numbered = [path for path in (LOGS / name / scale).glob("version_*") if path.name.removeprefix("version_").isdigit()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix("version_")))


def find_run(target: str, *, holding: Path, expected: str) -> Path:
    """Return the run that a folder or an experiment's name means, among those that hold a file.

    Args:
        target: the folder of a run, a folder above a single one, or an experiment's name, for its newest run at any scale.
        holding: the file, in the run's folder.
        expected: beginning of the message if there is no such run; the runs that hold the file follow it.

    Raises:
        ConfigError: no run; several; or the newest is a variant, such as a cell of a grid, and another is not, so either may be meant.
    """
    is_name = not Path(target).is_dir()
    folders = _holders(LOGS / target if is_name else Path(target), holding)
    if not folders:
        raise ConfigError(f"{target}: {expected}: {', '.join(sorted(map(str, _holders(LOGS, holding)))) or 'none'}")
    return (_newest_run if is_name else _only_run)(target, folders)


def _holders(root: Path, file: Path) -> list[Path]:
    """Return the folders below ``root`` that hold the file, in order of its time."""
    files = sorted(root.glob(f"**/{file}"), key=lambda path: path.stat().st_mtime)
    return [path.parents[len(file.parts) - 1] for path in files]


def _newest_run(name: str, folders: Sequence[Path]) -> Path:
    newest = folders[-1]
    variant = variations(newest)
    plain = next((folder for folder in reversed(folders) if variant and not variations(folder)), None)
    if plain is not None:
        raise ConfigError(
            f"{name}: its newest run, {newest}, is a variant of the experiment ({' '.join(variant)}); "
            f"choose that folder, or {plain}, the newest that is not a variant"
        )
    return newest


def _only_run(target: str, folders: Sequence[Path]) -> Path:
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
        ConfigError: a checkpoint without its run; or as ``find_run``.
    """
    path = Path(target)
    if path.is_file():
        run_folder(path)
        return path
    expected = "neither a checkpoint, nor a run's folder, nor an experiment with one; runs here"
    return find_run(target, holding=CHECKPOINT, expected=expected) / CHECKPOINT


def run_folder(checkpoint: Path) -> Path:
    """Return the run that a checkpoint belongs to.

    Raises:
        ConfigError: the run's ``config.yaml`` is missing.
    """
    folder = checkpoint.resolve().parents[1]
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{checkpoint}: not in the checkpoints/ of a run: no config.yaml in {folder}; choose a run or its checkpoint")
    return folder


def saved_hash(folder: Path, *, words: tuple[str, ...] = ()) -> str | None:
    """Return the hash of a run's saved configuration with further overrides; None if it is missing or of another schema."""
    path = folder / "config.yaml"
    return _hash_of_file(path, path.stat().st_mtime_ns, words) if path.is_file() else None


@lru_cache(maxsize=4096)
def _hash_of_file(path: Path, time: int, words: tuple[str, ...]) -> str | None:
    try:
        return config_hash(load_saved(path, overrides=list(words)))
    except ConfigError:
        return None
