"""The page of a grid: tables, plots and pictures, as files and in TensorBoard."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gestalt.results.ablation import METHOD, Table, build_tables, csv_text, latex
from gestalt.results.intervals import LEVEL
from gestalt.results.montage import montage
from gestalt.results.page import HERE, render
from gestalt.results.plots import bars, curves, heat_map, render_figure
from gestalt.results.reading import GridResults
from gestalt.results.text import span
from gestalt.support.files import write_whole

PICTURES = ("bars", "heat_map", "resolution", "montage")


def write_page(grid: GridResults, *, folder: Path, allow_mixed: bool) -> str:
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
