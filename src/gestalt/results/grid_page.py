"""Write the page of a grid: tables, plots and pictures, as files and in TensorBoard.

The montage has a row for each image and a panel for each cell. It shows the predictions that the
runs have stored.
"""

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gestalt.measures.evaluation.confusion import image_miou, pixel_counts
from gestalt.measures.evaluation.pictures import (
    PAPER,
    Predictions,
    class_colours,
    in_row,
    paint,
    pil_image,
    read_predictions,
    scale_to_panel,
)
from gestalt.results.grid import METHOD, Design, GridResults, GridTable, build_tables
from gestalt.results.plots import bars, lines, render_figure
from gestalt.results.result import Result
from gestalt.results.scores import TRIVIAL, Score, finding
from gestalt.results.templates import HERE, encoded, render
from gestalt.results.text import NONE, Table, baselines_text, csv_text, latex, span
from gestalt.support.files import write_whole
from gestalt.support.names import file_name


def montage(runs: Mapping[str, Result], image_set: str) -> bytes | None:
    """Draw a few images of a set as PNG: the image, the prediction of each run, and the ground
    truth. Returns None if no run stored predictions.

    Args:
        runs: a run for each cell, in order.  A run that stored other images than the first run is
            left out.
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
    width, height = max(row.width for row in rows), rows[0].height  # all rows have the same height
    page = Image.new("RGB", (width, height * len(rows)), PAPER)
    for number, row in enumerate(rows):
        page.paste(row, (0, height * number))
    return encoded(page, "png")


def _row(by_cell: Mapping[str, Predictions], index: int) -> Image.Image:
    """Draw one row: the image, each cell's prediction with its IoU, the ground truth, and a legend
    of all classes that occur.
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


PICTURES = ("bars", "resolution", "montage")


def write_page(grid: GridResults, folder: Path, allow_mixed: bool) -> str:
    """Write tables, pictures and page, each file atomically, and return the page.  The folder is
    created if it does not exist.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False.
    """
    from torch.utils.tensorboard import SummaryWriter

    tables = build_tables(grid, allow_mixed=allow_mixed)
    texts = [table.table() for table in tables]
    page = grid_page(grid, tables)
    text = render(HERE / "grid.markdown", page=page, method=METHOD, baselines_text=baselines_text)
    # The page is written last, after the files that it shows.
    for name, picture in page.pictures.items():
        write_whole(folder / f"{name}.png", picture)
    write_whole(folder / "table.csv", csv_text(texts))
    write_whole(folder / "table.tex", latex(texts, METHOD))
    write_whole(folder / "table.md", text)
    for name in set(PICTURES) - set(page.pictures):
        (folder / f"{name}.png").unlink(missing_ok=True)
    grid.write(folder)
    # The events for TensorBoard replace those of an earlier call.
    for outdated in folder.glob("events.out.tfevents*"):
        outdated.unlink()
    writer = SummaryWriter(str(folder))
    writer.add_text("table", text)
    for name, picture in page.pictures.items():
        image = np.array(Image.open(io.BytesIO(picture)).convert("RGB"))
        writer.add_image(name, image, dataformats="HWC")
    writer.close()
    _link_runs(grid, folder / "runs")
    return text


def _link_runs(grid: GridResults, folder: Path) -> None:
    """Link the folders of the runs by cell and seed, which gives the curves in TensorBoard their
    names.  A file system without links is skipped.
    """
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        for (cell, seed), result in grid.views[""].items():
            link = folder / file_name(f"{cell} seed {seed}")
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(result.run, folder), target_is_directory=True)


class GridPage(NamedTuple):
    """The plots and texts of a grid's page.

    Attributes:
        design: the description of the grid.
        finding: sentence with the finding for the grid's metric; empty without intervals.
        commits: commits of the code.
        remarks: lines on the runs, and the notes that all tables share.
        pictures: name -> PNG.
        tables: tables without the shared notes.
        paper: the paper's numbers, if it has any.
        times: table of the time of each cell.
    """

    design: Design
    finding: str
    commits: str
    remarks: list[str]
    pictures: dict[str, bytes]
    tables: list[GridTable]
    paper: Table | None
    times: Table


def grid_page(grid: GridResults, tables: Sequence[GridTable]) -> GridPage:
    """Return the content of a grid's page, given the tables of ``build_tables``."""
    design = grid.design
    drawn = [table for table in tables if table.metric == design.metric]
    shared = [
        note
        for first in tables[:1]
        for note in first.notes
        if all(note in table.notes for table in tables)
    ]
    paper = None
    if theirs := design.paper:
        rows = [
            [cell, *(str(theirs.cells[cell].get(metric, NONE)) for metric in theirs.metrics)]
            for cell in design.cells
            if cell in theirs.cells
        ]
        heads = ["cell", *theirs.metrics.values()]
        paper = Table(f"{theirs.source}; {theirs.scale}", heads, rows)
    return GridPage(
        design,
        finding(design.metric, drawn[0].scores, against=design.against) if drawn else "",
        ", ".join(sorted({result.commit for result in grid.views[""].values()})),
        [*grid.remarks, *shared],
        _pictures(grid, drawn) if drawn else {},
        [
            table._replace(notes=[note for note in table.notes if note not in shared])
            for table in tables
        ],
        paper,
        _times(grid),
    )


def _pictures(grid: GridResults, tables: Sequence[GridTable]) -> dict[str, bytes]:
    """Plot the tables of the grid's metric.  Returns name -> PNG."""
    design = grid.design
    first_runs = {
        cell: grid.views[""][cell, min(score.values)]
        for cell, score in tables[0].scores.items()
        if score.values
    }
    by_size: dict[str, dict[int, Score]] = {}
    if len(tables[1:]) == len(design.sizes) > 1:
        for size, table in zip(design.sizes, tables[1:], strict=True):
            for cell, score in table.scores.items():
                if score.values:
                    by_size.setdefault(cell, {})[size] = score
    pictures = {
        "bars": render_figure(
            bars(
                tables[0].scores,
                title=design.title,
                x_label=tables[0].title,
                base=design.against,
                baselines={
                    name: value for name, value in tables[0].baselines.items() if name in TRIVIAL
                },
            )
        )
    }
    if by_size:
        label = "test size, pixels a side"
        figure = lines(by_size, title=design.title, x_label=label, y_label=design.metric)
        pictures["resolution"] = render_figure(figure)
    if drawn := montage(first_runs, image_set=design.metric.partition("/")[0]):
        pictures["montage"] = drawn
    return pictures


def _times(grid: GridResults) -> Table:
    """Return a table of the time of each cell over all seeds.  The title has the total time."""
    rows = []
    total = 0.0
    for cell in grid.design.cells:
        times = [
            result.record["seconds"] for run, result in grid.views[""].items() if run[0] == cell
        ]
        parts = [sum(one[part] for one in times) for part in ("other", "training", "validation")]
        total += sum(parts)
        rows.append([cell, str(len(times)), *map(span, (*parts, sum(parts)))])
    heads = ["cell", "runs", "start-up and writing", "training", "validation", "all"]
    return Table(f"All reported runs together: {span(total)}", heads, rows)
