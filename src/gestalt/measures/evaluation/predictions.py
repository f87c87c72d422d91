"""Images with their predictions, drawn at once or kept as arrays: those that a run draws, and its
best and worst ones.  H W pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gestalt.support.arrays import Array
from gestalt.support.files import replacing

EXTREMES = "extremes"
"""The folder of the best and worst images, beside the arrays of a result."""

STATEMENT = "predictions.json"
"""The file beside written class maps that states what made them; written last."""

PARTS = ("image", "prediction", "label")
"""Arrays of a kept image."""


class ScoredImage(NamedTuple):
    """An image of a set with its prediction and label: tensors on the CPU, or a file's arrays.

    Attributes:
        sample_id: its index in the set.
        title: its title.
        image: (3, H, W) uint8.
        prediction: (H, W) integers, or (n, H, W) bool for groups that overlap.
        label: (H, W) integers.
    """

    sample_id: int
    title: str
    image: Any
    prediction: Any
    label: Any

    @classmethod
    def of(
        cls, batch: Mapping[str, Any], position: int, predictions: Any, labels: Any
    ) -> "ScoredImage":
        """Take an image of a batch, with its prediction and label."""
        return cls(
            int(batch["sample_id"][position]),
            batch["name"][position],
            batch["image"][position].cpu(),
            predictions[position].cpu(),
            labels[position].cpu(),
        )


class Predictions(NamedTuple):
    """The kept images of one set.

    Attributes:
        names: class names.
        background: the class that is painted black, or None.
        images: in order of image id.
    """

    names: tuple[str, ...]
    background: int | None
    images: tuple[ScoredImage, ...]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write ``<folder>/<benchmark>.npz``, over that of an earlier epoch."""
    arrays: dict[str, Array] = {
        "names": np.array(list(predictions.names)),
        "background": np.array(-1 if predictions.background is None else predictions.background),
        "ids": np.array([image.sample_id for image in predictions.images]),
        "titles": np.array([image.title for image in predictions.images]),
    }
    for index, image in enumerate(predictions.images):
        for part in PARTS:
            arrays[f"{index}_{part}"] = np.asarray(getattr(image, part))
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
        known = zip(arrays["ids"].tolist(), arrays["titles"].tolist(), strict=True)
        images = tuple(
            ScoredImage(*facts, *(arrays[f"{index}_{part}"] for part in PARTS))
            for index, facts in enumerate(known)
        )
        names, background = tuple(arrays["names"].tolist()), int(arrays["background"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not the predictions of a run ({error}); evaluate again, or restore the file"
        ) from error
    return Predictions(names, None if background < 0 else background, images=images)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a compressed ``.npz`` atomically; its folder is made if missing."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, Array]:
    """Read the arrays of a file by name, without running code from it; empty without a file.

    Raises:
        ValueError: truncated, or not arrays of numbers and words.
    """
    if not path.is_file():
        return {}
    try:
        # numpy leaves its own open after an error
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except OSError:
        raise
    except Exception as error:
        # zip, zlib and numpy raise different errors; numpy's own advises to run code from it
        raise ValueError(
            f"{path}: the arrays cannot be read: truncated, or more than numbers and words "
            f"({type(error).__name__}); evaluate again, or restore the file"
        ) from error
