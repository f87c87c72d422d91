"""The page of a grid: tables, plots and pictures, as files and in TensorBoard."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gestalt.results.ablation import METHOD, Table, View, build_table, csv_text, latex
from gestalt.results.design import Design
from gestalt.results.montage import montage
from gestalt.results.page import HERE, render
from gestalt.results.plots import bars, curves, heat_map
from gestalt.results.result import headlines
from gestalt.results.text import NONE, markdown_lines, span
from gestalt.support.files import replacing

PICTURES = ("bars", "heat_map", "resolution", "montage")

Walls = Mapping[tuple[str, int], float]
"""Seconds of a run with its start-up, by cell and seed."""


def write_page(
    design: Design,
    views: Sequence[View],
    *,
    folder: Path,
    allow_mixed: bool,
    remarks: Sequence[str],
    walls: Walls,
) -> str:
    """Write tables, pictures and page, each file atomically, and return the page.

    Args:
        design: the grid, as its tables show it.
        views: the runs' own scores first, then one for each test size.
        folder: made if missing.
        allow_mixed: True to compare runs that are not comparable, with a note.
        remarks: lines on chosen values and failed runs.
        walls: seconds of the runs that were neither resumed nor run by another command.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False.
    """
    tables = [
        build_table(design, view, metric=metric, allow_mixed=allow_mixed)
        for view in views
        for metric in headlines(list(view.results.values()))
    ]
    pictures = _pictures(design, views[0], tables=tables)
    times, total = _times(design, views[0], walls=walls)
    page = render(
        HERE / "ablation.markdown",
        design=design,
        commits=sorted({result.commit for result in views[0].results.values()}),
        method=METHOD,
        remarks=list(remarks),
        shared_notes=[
            note
            for note in (tables[0].notes if tables else ())
            if all(note in table.notes for table in tables)
        ],
        pictures=list(pictures),
        tables=tables,
        none_text=NONE,
        times=times,
        total=total,
        markdown_lines=markdown_lines,
    )
    files = {
        "table.csv": csv_text(tables).encode(),
        "table.tex": "\n".join(latex(table) for table in tables).encode(),
    }
    files |= {f"{name}.png": picture for name, picture in pictures.items()}
    # the page last, after the files that it shows
    for name, content in {**files, "table.md": page.encode()}.items():
        with replacing(folder / name) as partial:
            partial.write_bytes(content)
    for outdated in set(PICTURES) - set(pictures):
        (folder / f"{outdated}.png").unlink(missing_ok=True)
    _write_events(folder, page=page, pictures=pictures)
    return page


def _pictures(design: Design, view: View, *, tables: Sequence[Table]) -> dict[str, bytes]:
    """Draw the grid's metric.  Returns PNG by name."""
    drawn = [table for table in tables if table.metric == design.metric]
    if not drawn:
        return {}
    first_runs = {
        cell: runs[min(runs)] for cell in design.cells if (runs := view.of(cell, design.metric))
    }
    several_sizes = len(drawn[1:]) == len(design.sizes) > 1
    pictures = {
        "bars": bars(drawn[0]),
        "heat_map": heat_map(drawn[0]),
        "resolution": curves(drawn[1:]) if several_sizes else None,
        "montage": montage(first_runs, image_set=design.metric.partition("/")[0]),
    }
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _times(design: Design, view: View, *, walls: Walls) -> tuple[list[list[str]], str]:
    """Return the time of each cell over all seeds, and of all; time outside training and validation
    is start-up and writing.
    """
    rows, total = [], 0.0
    for cell in design.cells:
        runs = {
            key: result.record["seconds"] for key, result in view.results.items() if key[0] == cell
        }
        training, validation = (
            sum(seconds[part] for seconds in runs.values()) for part in ("training", "validation")
        )
        whole = sum(walls.get(key, sum(seconds.values())) for key, seconds in runs.items())
        total += whole
        times = (max(0.0, whole - training - validation), training, validation, whole)
        rows.append([cell, str(len(runs)), *map(span, times)])
    return rows, span(total)


def _write_events(folder: Path, *, page: str, pictures: Mapping[str, bytes]) -> None:
    """Write page and pictures for TensorBoard, in place of those of an earlier call."""
    from torch.utils.tensorboard import SummaryWriter

    for outdated in folder.glob("events.out.tfevents*"):
        outdated.unlink()
    writer = SummaryWriter(str(folder))
    writer.add_text("table", page)
    for name, picture in pictures.items():
        writer.add_image(
            name, np.array(Image.open(io.BytesIO(picture)).convert("RGB")), dataformats="HWC"
        )
    writer.close()
