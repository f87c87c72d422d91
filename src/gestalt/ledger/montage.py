"""Predicted masks side by side: a row for each image, a column for each cell, from the predictions that runs keep.  H W pixels."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gestalt.evaluation.confusion import iou_of, pixel_counts
from gestalt.evaluation.pictures import INK, PAPER, class_colours, overlay
from gestalt.evaluation.predictions import Kept, Predictions, read_predictions
from gestalt.ledger.result import Result

TILE = 160
"""Height of a tile in pixels."""

GAP = 8
SMALL, LARGE = 13, 15


def montage(runs: Mapping[str, Result], *, image_set: str) -> bytes | None:
    """Draw a few images of a set with each run's prediction between image and truth; None if no run kept its predictions.

    Args:
        runs: one for each cell, in order; a run that kept other images than the first is left out.
        image_set: name of the set.
    """
    paths = {cell: result.run / "predictions" / f"{image_set}.npz" for cell, result in runs.items()}
    kept = {cell: predictions for cell, path in paths.items() if (predictions := read_predictions(path)) is not None}
    first = next(iter(kept.values()), None)
    if first is None or not first.images:
        return None
    columns = {cell: predictions for cell, predictions in kept.items() if _images(predictions) == _images(first)}
    colours = class_colours(len(first.names), background=first.background)
    rows = [_row(list(columns.values()), index=index, colours=colours) for index in range(len(first.images))]
    titles = ["image", *columns, "truth"]
    widths = [max(row[place].width for row in rows) for place in range(len(titles))]
    legend = _legend(list(columns.values()), colours=colours, width=sum(widths) + GAP * len(widths))
    page = _page(titles, rows=rows, widths=widths, legend=legend)
    out = io.BytesIO()
    page.save(out, format="png")
    return out.getvalue()


def _images(predictions: Predictions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return predictions.names, tuple(image.title for image in predictions.images)


def _row(columns: list[Predictions], *, index: int, colours: NDArray[np.uint8]) -> list[Image.Image]:
    """Draw the tiles of one image."""
    first = columns[0].images[index]
    tiles = [_tile(Image.fromarray(first.image.transpose(1, 2, 0)), caption=first.title)]
    for kept in (predictions.images[index] for predictions in columns):
        tiles.append(_tile(_painted(first, kept.prediction, colours=colours), caption=f"IoU {_mean_iou(kept, classes=len(colours)):.2f}"))
    return [*tiles, _tile(_painted(first, first.label, colours=colours), caption="")]


def _painted(kept: Kept, mask: NDArray[np.integer[Any]], *, colours: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(kept.image.transpose(1, 2, 0)).resize((mask.shape[1], mask.shape[0]), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return overlay(pixels, torch.from_numpy(mask), colours=colours, alpha=0.7, void=True)


def _mean_iou(kept: Kept, *, classes: int) -> float:
    """Return the mean IoU over the classes in the image's truth or prediction; 0 for an image without labels."""
    iou = iou_of(pixel_counts(torch.from_numpy(kept.prediction), torch.from_numpy(kept.label), classes=classes).numpy())
    present = ~np.isnan(iou)
    return float(iou[present].mean()) if present.any() else 0.0


def _tile(picture: Image.Image, *, caption: str) -> Image.Image:
    """Scale a picture to the height of a tile and set its caption below."""
    width = max(1, round(picture.width * TILE / picture.height))
    tile = Image.new("RGB", (width, TILE + SMALL + 6), PAPER)
    tile.paste(picture.resize((width, TILE), Image.Resampling.NEAREST if picture.height < TILE else Image.Resampling.BICUBIC), (0, 0))
    ImageDraw.Draw(tile).text((2, TILE + 1), caption, fill=INK, font=ImageFont.load_default(size=SMALL))
    return tile


def _page(titles: list[str], *, rows: list[list[Image.Image]], widths: list[int], legend: Image.Image) -> Image.Image:
    """Lay out the tiles with titles above, wrapped at spaces, and the legend below."""
    font = ImageFont.load_default(size=LARGE)
    wrapped = [_wrapped(title, width=width, font=font) for title, width in zip(titles, widths, strict=True)]
    top = GAP + (LARGE + 4) * max(len(lines) for lines in wrapped)
    height = top + sum(row[0].height + GAP for row in rows) + legend.height
    page = Image.new("RGB", (GAP + sum(width + GAP for width in widths), height), PAPER)
    draw = ImageDraw.Draw(page)
    left = GAP
    for place, width in enumerate(widths):
        draw.multiline_text((left, GAP // 2), "\n".join(wrapped[place]), fill=INK, font=font, spacing=4)
        down = top
        for row in rows:
            page.paste(row[place], (left, down))
            down += row[place].height + GAP
        left += width + GAP
    page.paste(legend, (GAP, height - legend.height))
    return page


def _wrapped(title: str, *, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for part in title.split(" "):
        longer = f"{lines[-1]} {part}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _legend(columns: list[Predictions], *, colours: NDArray[np.uint8], width: int) -> Image.Image:
    """Draw colour and name of every class in a truth or a prediction, in lines."""
    font = ImageFont.load_default(size=SMALL)
    names = columns[0].names
    masks = [mask for predictions in columns for kept in predictions.images for mask in (kept.prediction, kept.label)]
    shown = [int(index) for index in np.unique(np.concatenate([np.unique(mask) for mask in masks])) if index < len(colours)]
    places, left, down = [], 0, 0
    for index in shown:
        entry_width = SMALL + 24 + int(font.getlength(names[index]))
        left, down = (0, down + SMALL + 9) if left + entry_width > width else (left, down)
        places.append((index, left, down))
        left += entry_width
    page = Image.new("RGB", (width, down + SMALL + 14), PAPER)
    draw = ImageDraw.Draw(page)
    for index, x, y in places:
        red, green, blue = (int(value) for value in colours[index])
        draw.rectangle((x, y, x + SMALL, y + SMALL), fill=(red, green, blue), outline=INK)
        draw.text((x + SMALL + 6, y - 2), names[index], fill=INK, font=font)
    return page
