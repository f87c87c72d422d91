"""The arrays of a result, an ``.npz`` for each set: what each image contributed, for intervals over images, and the confusion matrix."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gestalt.evaluation.predictions import write_arrays
from gestalt.measures.measured import Measured
from gestalt.support.files import file_hash


def write_per_image(folder: Path, scorers: Iterable[Measured]) -> dict[str, dict[str, str]]:
    """Write the arrays of every scorer atomically, a file for each set.

    Args:
        folder: made if missing; its ``<set>.npz`` has the arrays by ``<name>``, rows in order of image id.
        scorers: several may share a set.

    Returns:
        Fields for the record, by set: the file, relative to the parent of the folder, and its SHA-256.
    """
    sets: dict[str, dict[str, NDArray[Any]]] = {}
    for scorer in scorers:
        for key, array in scorer.per_image().items():
            name, _, array_name = key.partition("/")
            arrays = sets.setdefault(name, {})
            assert array_name not in arrays, f"two callbacks give {key}"
            arrays[array_name] = array
    for name, arrays in sets.items():
        write_arrays(folder / f"{name}.npz", arrays)
    return {name: {"file": f"{folder.name}/{name}.npz", "sha256": file_hash(folder / f"{name}.npz")} for name in sets}
