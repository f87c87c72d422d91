"""The page of a grid: tables, plots and pictures, as files and in TensorBoard."""

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gestalt.ledger.ablation import Table, View, build_table
from gestalt.ledger.ablation_text import METHOD, csv_text, latex, markdown
from gestalt.ledger.design import Design
from gestalt.ledger.montage import montage
from gestalt.ledger.plots import bars, curves, heat_map
from gestalt.ledger.result import headlines, run_seconds
from gestalt.ledger.text import NONE, markdown_lines, span
from gestalt.support.files import replacing

EVENTS = "events.out.tfevents*"
PICTURES = ("bars", "heat_map", "resolution", "montage")

Walls = Mapping[tuple[str, int], float]
"""Seconds of a run with its start-up, by cell and seed."""


def write_page(design: Design, views: Sequence[View], *, folder: Path, allow_mixed: bool, remarks: Sequence[str], walls: Walls) -> str:
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
    page = _page(design, views[0], tables=tables, pictures=list(pictures), remarks=remarks, walls=walls)
    files = {"table.csv": csv_text(tables).encode(), "table.tex": "\n".join(latex(table) for table in tables).encode()}
    files |= {f"{name}.png": picture for name, picture in pictures.items()}
    for name, content in {**files, "table.md": page.encode()}.items():  # the page last, after the files that it shows
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
    by_size = drawn[1:]
    first_runs = {cell: runs[min(runs)] for cell in design.cells if (runs := view.of(cell, design.metric))}
    several_sizes = len(by_size) == len(design.sizes) > 1
    pictures = {
        "bars": bars(drawn[0]),
        "heat_map": heat_map(drawn[0]),
        "resolution": curves(by_size) if several_sizes else None,
        "montage": montage(first_runs, image_set=design.metric.partition("/")[0]),
    }
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _page(design: Design, view: View, *, tables: Sequence[Table], pictures: Sequence[str], remarks: Sequence[str], walls: Walls) -> str:
    commits = sorted({result.commit for result in view.results.values()})
    shared_notes = [note for note in (tables[0].notes if tables else ()) if all(note in table.notes for table in tables)]
    lines = [
        f"# {design.title}",
        "",
        f"Base `{design.base}`, differences to *{design.against}*, commit {', '.join(commits)}.",
        *([f"Every cell with `{' '.join(design.common)}`."] if design.common else []),
        *["", METHOD, ""],
        *(f"- {remark}" for remark in [*remarks, *shared_notes]),
        "",
        *(f"![{name}]({name}.png)" for name in pictures),
        *["", "## Tables", ""],
        *(markdown(table, omit=shared_notes) for table in tables),
        *_paper(design),
        *["## Where the time went", ""],
        *_times(design, view, walls=walls),
    ]
    return "\n".join(lines) + "\n"


def _paper(design: Design) -> list[str]:
    """List all numbers of the paper for these cells, in a section of their own."""
    paper = design.paper
    if paper is None:
        return []
    heads = ["cell", *paper.metrics.values()]
    rows = [[cell, *(str(paper.cells[cell].get(name, NONE)) for name in paper.metrics)] for cell in design.cells if cell in paper.cells]
    return ["## The paper's numbers, never ours", "", f"{paper.source}; {paper.scale}.", "", *markdown_lines(heads, rows), ""]


def _times(design: Design, view: View, *, walls: Walls) -> list[str]:
    """List the time of each cell over all seeds; time outside training and validation is start-up and writing."""
    rows, total = [], 0.0
    for cell in design.cells:
        runs = {key: run_seconds(result.record) for key, result in view.results.items() if key[0] == cell}
        training, validation = (sum(seconds[part] for seconds in runs.values()) for part in ("training", "validation"))
        whole = sum(walls.get(key, sum(seconds.values())) for key, seconds in runs.items())
        total += whole
        times = (max(0.0, whole - training - validation), training, validation, whole)
        rows.append([cell, str(len(runs)), *map(span, times)])
    lines = markdown_lines(["cell", "runs", "start-up and writing", "training", "validation", "all"], rows)
    return [*lines, "", f"All reported runs together: {span(total)}. Start-up includes making an init, in the run that had to."]


def _write_events(folder: Path, *, page: str, pictures: Mapping[str, bytes]) -> None:
    """Write page and pictures for TensorBoard, in place of those of an earlier call."""
    from torch.utils.tensorboard import SummaryWriter

    fresh = folder / ".events"
    shutil.rmtree(fresh, ignore_errors=True)
    writer = SummaryWriter(str(fresh))
    writer.add_text("table", page)
    for name, picture in pictures.items():
        pixels = np.array(Image.open(io.BytesIO(picture)).convert("RGB"))
        writer.add_image(name, pixels, dataformats="HWC")
    writer.close()
    for old in folder.glob(EVENTS):
        old.unlink()
    for new in fresh.glob(EVENTS):
        os.replace(new, folder / new.name)
    shutil.rmtree(fresh)
