"""The page of a grid: tables, plots and pictures, as files and in TensorBoard.

Its montage has a row for each image and a panel for each cell, from the predictions that runs keep.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gestalt.measures.evaluation.confusion import image_miou, pixel_counts
from gestalt.measures.evaluation.pictures import (
    PAPER,
    class_colours,
    in_row,
    paint,
    pil_image,
    scale_to_panel,
)
from gestalt.measures.evaluation.predictions import Predictions, read_predictions
from gestalt.results.ablation import METHOD, Table, build_tables, csv_text, latex
from gestalt.results.intervals import LEVEL
from gestalt.results.page import HERE, render
from gestalt.results.plots import bars, curves, heat_map, render_figure
from gestalt.results.reading import GridResults
from gestalt.results.result import Result
from gestalt.results.text import span
from gestalt.support.files import write_whole


def montage(runs: Mapping[str, Result], image_set: str) -> bytes | None:
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
    colours = class_colours(len(first.names), first.background)
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


PICTURES = ("bars", "heat_map", "resolution", "montage")


def write_page(grid: GridResults, folder: Path, allow_mixed: bool) -> str:
    """Write tables, pictures and page, each file atomically, and return the page; the folder is
    made if missing.

    Raises:
        ConfigError: as ``page_values``.
    """
    from torch.utils.tensorboard import SummaryWriter

    values = page_values(grid, allow_mixed=allow_mixed)
    tables = values["tables"]
    pictures = values["pictures"]
    page = render(HERE / "ablation.markdown", **values)
    # the page last, after the files that it shows
    files = {
        **{f"{name}.png": picture for name, picture in pictures.items()},
        "table.csv": csv_text(tables).encode(),
        "table.tex": latex(tables).encode(),
        "table.md": page.encode(),
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    for name in set(PICTURES) - set(pictures):
        (folder / f"{name}.png").unlink(missing_ok=True)
    grid.write(folder)
    # for TensorBoard, in place of those of an earlier call
    for outdated in folder.glob("events.out.tfevents*"):
        outdated.unlink()
    writer = SummaryWriter(str(folder))
    writer.add_text("table", page)
    for name, picture in pictures.items():
        image = np.array(Image.open(io.BytesIO(picture)).convert("RGB"))
        writer.add_image(name, image, dataformats="HWC")
    writer.close()
    return page


def page_values(grid: GridResults, *, allow_mixed: bool) -> dict[str, Any]:
    """Return what a page shows of a grid: the values of its template, the pictures as PNG by name.

    Args:
        grid: the results.
        allow_mixed: True to compare runs that are not comparable, with a note.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False.
    """
    tables = build_tables(grid, allow_mixed=allow_mixed)
    times, total = _times(grid)
    return {
        "design": grid.design,
        "runs": len(grid.views[""]),
        "commits": sorted({result.commit for result in grid.views[""].values()}),
        "method": METHOD,
        "remarks": grid.remarks,
        "shared_notes": [
            note
            for note in (tables[0].notes if tables else ())
            if all(note in table.notes for table in tables)
        ],
        "pictures": _pictures(grid, tables),
        "tables": tables,
        "times": times,
        "total": total,
    }


def _pictures(grid: GridResults, tables: Sequence[Table]) -> dict[str, bytes]:
    """Draw the grid's metric.  Returns PNG by name."""
    design = grid.design
    tables = [table for table in tables if table.metric == design.metric]
    if not tables:
        return {}
    first_runs = {
        cell: grid.views[""][cell, min(score.values)]
        for cell, score in tables[0].scores.items()
        if score.values
    }
    several_sizes = len(tables[1:]) == len(design.sizes) > 1
    pictures = {
        "bars": render_figure(
            bars(
                tables[0].scores,
                title=design.title,
                x_label=f"{tables[0].title}   (line: {LEVEL:.0%} over test images; dots: seeds; "
                "dark: the base)",
                base=design.against,
                baselines={
                    name: value
                    for name, value in tables[0].baselines.items()
                    if name in ("constant_background", "whole_image")
                },
            )
        ),
        "heat_map": heat_map(tables[0]),
        "resolution": curves(tables[1:]) if several_sizes else None,
        "montage": montage(first_runs, image_set=design.metric.partition("/")[0]),
    }
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _times(grid: GridResults) -> tuple[list[list[str]], str]:
    """Return the time of each cell over all seeds, and of all; time outside training and validation
    is start-up and writing.
    """
    rows = []
    total = 0.0
    for cell in grid.design.cells:
        times = [(0.0, 0.0, 0.0)]
        for run, result in grid.views[""].items():
            if run[0] == cell:
                seconds = result.record["seconds"]
                whole = grid.walls.get(run, sum(seconds.values()))
                times.append((seconds["training"], seconds["validation"], whole))
        training, validation, whole = np.sum(times, axis=0)
        total += whole
        parts = max(0.0, whole - training - validation), training, validation, whole
        rows.append([cell, str(len(times) - 1), *map(span, parts)])
    return rows, span(total)
