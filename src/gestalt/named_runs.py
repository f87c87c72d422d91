"""Which run an experiment's name means."""

import json
from collections.abc import Sequence
from pathlib import Path

from gestalt.config import hashed_keys, load, load_saved
from gestalt.schema import ConfigError

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
