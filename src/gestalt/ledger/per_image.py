"""The arrays of a result, one ``.npz`` a set: what each image contributed, which a paired bootstrap resamples, and the confusion matrix."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_per_image(folder: Path, callbacks: Iterable[Any]) -> dict[str, dict[str, str]]:
    """Write the arrays of every callback that has ``per_image() -> {"<set>/<name>": array}``, atomically, a file a set.

    Args:
        folder: made if missing; ``<set>.npz`` in it holds the arrays by ``<name>``, rows in order of image id.
        callbacks: scorers; several may share a set.

    Returns:
        For the record, by set: the file, as seen from beside the folder, and its SHA-256.
    """
    sets: dict[str, dict[str, NDArray[Any]]] = {}
    for callback in callbacks:
        for key, array in callback.per_image().items() if hasattr(callback, "per_image") else ():
            name, _, what = key.partition("/")
            arrays = sets.setdefault(name, {})
            assert what not in arrays, f"two callbacks give {key}"
            arrays[what] = array
    for name, arrays in sets.items():
        write_arrays(folder / f"{name}.npz", arrays)
    return {name: {"file": f"{folder.name}/{name}.npz", "sha256": file_hash(folder / f"{name}.npz")} for name in sets}


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed ``.npz`` atomically; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name; nothing where there is no file."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
