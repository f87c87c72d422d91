"""Predictions kept as arrays, to be drawn later: the images that a run draws, and its best and worst ones.  H W pixels."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.support.files import replacing

EXTREMES = "extremes"
"""The folder of the best and worst images, beside the arrays of a result."""


class Kept(NamedTuple):
    """One image.

    Attributes:
        title: its title.
        image: (3, H, W) uint8.
        prediction: (H, W), in the ``map_type`` of the classes.
        label: the same.
    """

    title: str
    image: NDArray[np.uint8]
    prediction: NDArray[np.integer[Any]]
    label: NDArray[np.integer[Any]]


class Predictions(NamedTuple):
    """The kept images of one set.

    Attributes:
        names: class names.
        background: the class that is painted black, or None.
        images: in order of image id.
    """

    names: tuple[str, ...]
    background: int | None
    images: tuple[Kept, ...]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write ``<folder>/<set>.npz``, over that of an earlier epoch."""
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(list(predictions.names)),
        "background": np.array(-1 if predictions.background is None else predictions.background),
        "titles": np.array([kept.title for kept in predictions.images]),
    }
    for index, kept in enumerate(predictions.images):
        arrays |= {f"{index}_image": kept.image, f"{index}_prediction": kept.prediction, f"{index}_label": kept.label}
    write_arrays(path, arrays)


def read_predictions(path: Path) -> Predictions | None:
    """Read the file of ``write_predictions``; None without a file.

    Raises:
        ValueError: not such a file.
    """
    arrays = read_arrays(path)
    if not arrays:
        return None
    try:
        images = tuple(
            Kept(title, image=arrays[f"{index}_image"], prediction=arrays[f"{index}_prediction"], label=arrays[f"{index}_label"])
            for index, title in enumerate(arrays["titles"].tolist())
        )
        names, background = tuple(arrays["names"].tolist()), int(arrays["background"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the predictions of a run ({error}); evaluate again, or restore the file") from error
    return Predictions(names, None if background < 0 else background, images=images)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a compressed ``.npz`` atomically; its folder is made if missing."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file by name, without running code from it; empty without a file.

    Raises:
        ValueError: truncated, or not arrays of numbers and words.
    """
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:  # numpy leaves its own open after an error
            return dict(file)
    except (ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, MemoryError, NotImplementedError) as error:
        why = f"truncated, or more than numbers and words ({type(error).__name__})"  # numpy's own message advises to run code from it
        raise ValueError(f"{path}: the arrays cannot be read: {why}; evaluate again, or restore the file") from error
