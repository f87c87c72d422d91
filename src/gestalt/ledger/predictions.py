"""The predictions of a run's fixed handful of images, kept as arrays so that several runs can be drawn side by side.  H W pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.ledger.per_image import read_arrays, write_arrays


class Kept(NamedTuple):
    """One image.

    Attributes:
        title: what people call it.
        image: (3, H, W) uint8.
        prediction: (H, W) uint8.
        label: (H, W) uint8.
    """

    title: str
    image: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    label: NDArray[np.uint8]


class Predictions(NamedTuple):
    """A set's handful.

    Attributes:
        names: class names.
        background: the class that is painted black, or None.
        images: in order of image id.
    """

    names: tuple[str, ...]
    background: int | None
    images: tuple[Kept, ...]


def write_predictions(path: Path, *, names: Sequence[str], background: int | None, images: Sequence[Kept]) -> None:
    """Write ``predictions/<set>.npz`` of a run, over that of an earlier epoch."""
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array(list(names)),
        "background": np.array(-1 if background is None else background),
        "titles": np.array([one.title for one in images]),
    }
    for index, one in enumerate(images):
        arrays |= {f"{index}_image": one.image, f"{index}_prediction": one.prediction, f"{index}_label": one.label}
    write_arrays(path, arrays)


def read_predictions(path: Path) -> Predictions | None:
    """What ``write_predictions`` wrote; None where there is no file."""
    arrays = read_arrays(path)
    if not arrays:
        return None
    images = tuple(
        Kept(title, image=arrays[f"{index}_image"], prediction=arrays[f"{index}_prediction"], label=arrays[f"{index}_label"])
        for index, title in enumerate(arrays["titles"].tolist())
    )
    background = int(arrays["background"])
    return Predictions(tuple(arrays["names"].tolist()), None if background < 0 else background, images=images)
