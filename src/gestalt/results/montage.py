"""Predicted masks side by side: a row for each image, a panel for each cell, from the predictions
that runs keep.
"""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from gestalt.evaluation.confusion import image_miou, pixel_counts
from gestalt.evaluation.pictures import (
    PAPER,
    class_colours,
    in_row,
    paint,
    pil_image,
    scale_to_panel,
)
from gestalt.evaluation.predictions import Predictions, read_predictions
from gestalt.results.result import Result


def montage(runs: Mapping[str, Result], *, image_set: str) -> bytes | None:
    """Draw a few images of a set with each run's prediction between image and truth, as PNG; None
    if no run kept its predictions.

    Args:
        runs: one for each cell, in order; a run that kept other images than the first is left out.
        image_set: name of the set.
    """
    by_cell = {}
    shown = None  # classes and titles of the first run
    for cell, result in runs.items():
        predictions = read_predictions(result.run / "predictions" / f"{image_set}.npz")
        if predictions is not None and predictions.images:
            subjects = predictions.names, [image.title for image in predictions.images]
            shown = shown or subjects
            if subjects == shown:
                by_cell[cell] = predictions
    if shown is None:
        return None
    rows = [_row(by_cell, index) for index in range(len(shown[1]))]
    width, height = max(row.width for row in rows), rows[0].height  # all have the same
    page = Image.new("RGB", (width, height * len(rows)), PAPER)
    for number, row in enumerate(rows):
        page.paste(row, (0, height * number))
    out = io.BytesIO()
    page.save(out, format="png")
    return out.getvalue()


def _row(by_cell: Mapping[str, Predictions], index: int) -> Image.Image:
    """Draw one image, each cell's prediction with its IoU, the truth, and a legend of the classes
    in any of them.
    """
    first = next(iter(by_cell.values()))
    image = first.images[index]
    colours = class_colours(len(first.names), background=first.background)
    panels = {"image": scale_to_panel(pil_image(image.image), smooth=True)}
    maps = [image.label]
    for cell, predictions in by_cell.items():
        prediction = predictions.images[index].prediction
        counts = pixel_counts(prediction, image.label, classes=len(colours))
        iou = np.nan_to_num(image_miou(counts[None]))[0]
        panels[f"{cell}: IoU {iou:.2f}"] = paint(image.image, prediction, colours=colours)
        maps.append(prediction)
    panels["truth"] = paint(image.image, image.label, colours=colours, void=True)
    present = np.unique(maps)
    entries = [
        (first.names[index], "", colours[index]) for index in present[present < len(colours)]
    ]
    return in_row(panels, entries=entries, caption=image.title)
