"""Predicted masks side by side: a row for each image, a column for each cell, from the predictions that runs keep.  H W pixels."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from gestalt.evaluation.confusion import image_miou, pixel_counts
from gestalt.evaluation.pictures import class_colours, overlay
from gestalt.evaluation.predictions import Kept, Predictions, read_predictions
from gestalt.results.plots import DPI, drawn
from gestalt.results.result import Result

TILE = 1.6
"""Height of an image in inches."""


def montage(runs: Mapping[str, Result], *, image_set: str) -> bytes | None:
    """Draw a few images of a set with each run's prediction between image and truth; None if no run kept its predictions.

    Args:
        runs: one for each cell, in order; a run that kept other images than the first is left out.
        image_set: name of the set.
    """
    paths = {cell: result.run / "predictions" / f"{image_set}.npz" for cell, result in runs.items()}
    by_cell = {cell: predictions for cell, path in paths.items() if (predictions := read_predictions(path)) is not None}
    first = next(iter(by_cell.values()), None)
    if first is None or not first.images:
        return None
    columns = {cell: predictions for cell, predictions in by_cell.items() if _images(predictions) == _images(first)}
    colours = class_colours(len(first.names), background=first.background)
    widest = max(image.label.shape[1] / image.label.shape[0] for image in first.images)
    size = (TILE * widest * (len(columns) + 2), (TILE + 0.3) * len(first.images) + 1)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(len(first.images), len(columns) + 2, squeeze=False)
    for axes, title in zip(grid[0], ["image", *columns, "truth"], strict=True):
        axes.set_title(textwrap.fill(title, width=16), fontsize=9)
    shown: set[int] = set()
    for index, row in enumerate(grid):
        image = first.images[index]
        _show(row[0], image.image.transpose(1, 2, 0), caption=image.title)
        for axes, predictions in zip(row[1:-1], columns.values(), strict=True):
            prediction = predictions.images[index].prediction
            counts = pixel_counts(torch.from_numpy(prediction), torch.from_numpy(image.label), classes=len(colours))
            iou = np.nan_to_num(image_miou(counts.numpy()[None]))[0]
            _show(axes, _painted(image, prediction, colours=colours), caption=f"IoU {iou:.2f}")
            shown |= set(np.unique(prediction).tolist())
        _show(row[-1], _painted(image, image.label, colours=colours))
        shown |= set(np.unique(image.label).tolist())
    classes = [index for index in sorted(shown) if index < len(colours)]
    patches = [Patch(facecolor=colours[index] / 255, edgecolor="black", label=first.names[index]) for index in classes]
    figure.legend(handles=patches, loc="outside lower left", ncols=max(1, int(size[0] / 1.6)), frameon=False, fontsize=8)
    return drawn(figure)


def _images(predictions: Predictions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return predictions.names, tuple(image.title for image in predictions.images)


def _show(axes: Axes, image: NDArray[np.uint8], *, caption: str = "") -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption, fontsize=8)


def _painted(kept: Kept, mask: NDArray[np.integer[Any]], *, colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image at the size of a mask, with the mask's colours."""
    image = torch.nn.functional.interpolate(torch.from_numpy(kept.image)[None], size=mask.shape, mode="bilinear", antialias=True)[0]
    return np.asarray(overlay(image, torch.from_numpy(mask), colours=colours, alpha=0.7, void=True))
