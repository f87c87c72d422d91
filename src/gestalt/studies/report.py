"""The page of a grid: tables, plots and pictures, as files and in TensorBoard, under ``lightning_logs/ablations/<grid>/<scale>/``."""

import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gestalt.studies.compare import Table, build_table
from gestalt.studies.grid import Grid
from gestalt.studies.montage import montage
from gestalt.studies.plots import bars, curves, heat_map
from gestalt.studies.pool import span
from gestalt.studies.results import Scored, View, run_seconds
from gestalt.studies.tables import METHOD, csv_text, latex, markdown
from gestalt.support.files import replacing

EVENTS = "events.out.tfevents"


def write_report(
    grid: Grid, views: Sequence[View], *, folder: Path, allow_mixed: bool, remarks: Sequence[str], walls: dict[tuple[str, int], float]
) -> str:
    """Write everything, each file whole or not at all, and return the page.

    Args:
        grid: what was run.
        views: the runs' own scores first, then one a test size.
        folder: where to.
        allow_mixed: put runs that are not comparable into one column all the same.
        remarks: lines on what was chosen and what failed.
        walls: seconds of a cell's run with all start-up, where this grid ran it whole.

    Raises:
        ConfigError: the runs are not comparable.
    """
    tables = [build_table(grid, view, metric=metric, allow_mixed=allow_mixed) for view in views for metric in view.metrics()]
    title = f"{grid.name} at scale {grid.scale_name}"
    pictures = _pictures(grid, views, tables=tables, title=title)
    page = _page(grid, views[0], tables=tables, pictures=list(pictures), remarks=remarks, walls=walls)
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "table.csv", csv_text(tables).encode())
    write_bytes(folder / "table.tex", "\n".join(latex(table) for table in tables).encode())
    for name, picture in pictures.items():
        write_bytes(folder / f"{name}.png", picture)
    for stale in {"bars", "heat_map", "resolution", "montage"} - set(pictures):
        (folder / f"{stale}.png").unlink(missing_ok=True)
    write_bytes(folder / "table.md", page.encode())
    _write_events(folder, page=page, pictures=pictures)
    return page


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def _pictures(grid: Grid, views: Sequence[View], *, tables: list[Table], title: str) -> dict[str, bytes]:
    """PNGs by name, of the metric that the grid is drawn by."""
    drawn = [table for table in tables if table.metric == grid.metric]
    if not drawn:
        return {}
    sized = drawn[1:]
    found = {
        "bars": bars(drawn[0], title=title),
        "heat_map": heat_map(drawn[0], title=title),
        "resolution": curves(sized, sizes=grid.evaluate_at, title=title) if len(sized) == len(grid.evaluate_at) > 1 else None,
        "montage": montage(_first_runs(grid, views[0]), image_set=grid.metric.partition("/")[0]),
    }
    return {name: picture for name, picture in found.items() if picture is not None}


def _first_runs(grid: Grid, view: View) -> list[Scored]:
    """Each cell's run with the lowest seed."""
    return [runs[min(runs)] for cell in grid.cells if (runs := view.of(cell.name, grid.metric))]


def _page(
    grid: Grid, view: View, *, tables: list[Table], pictures: list[str], remarks: Sequence[str], walls: dict[tuple[str, int], float]
) -> str:
    commits = sorted({str(one.record["provenance"]["commit"]) for one in view.scored.values()})
    lines = [
        f"# {grid.name} at scale {grid.scale_name}",
        "",
        f"Base `{grid.base_name}`, differences to *{grid.against}*, commit {', '.join(commits)}.",
    ]
    lines += [f"Every cell with `{' '.join(grid.common)}`."] if grid.common else []
    common = [note for note in (tables[0].notes if tables else ()) if all(note in table.notes for table in tables)]
    lines += ["", METHOD, "", *(f"- {remark}" for remark in [*remarks, *common]), ""]
    lines += [f"![{name}]({name}.png)" for name in pictures]
    lines += ["", "## Tables", "", *(markdown(table, said=common) for table in tables)]
    return "\n".join([*lines, *_paper(grid), "## Where the time went", "", *_times(grid, view, walls=walls)]) + "\n"


def _paper(grid: Grid) -> list[str]:
    """All that the paper reports for these cells, by itself."""
    if grid.paper is None:
        return []
    names = list(grid.paper.metrics)
    heads = ["cell", *(grid.paper.metrics[name] for name in names)]
    rows = [
        [cell.name, *(f"{grid.paper.cells[cell.name].get(name, '–')}" for name in names)]
        for cell in grid.cells
        if cell.name in grid.paper.cells
    ]
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    return ["## The paper's numbers, never ours", "", f"{grid.paper.source}; {grid.paper.scale}.", "", *lines, ""]


def _times(grid: Grid, view: View, *, walls: dict[tuple[str, int], float]) -> list[str]:
    """Seconds of each cell, all its seeds together; what is neither training nor validation is start-up and writing."""
    lines = ["| cell | runs | start-up and writing | training | validation | all |", "| --- | --- | --- | --- | --- | --- |"]
    total = 0.0
    for cell in grid.cells:
        runs = [one for (name, _), one in view.scored.items() if name == cell.name]
        parts = [run_seconds(one.record) for one in runs]
        training, validation = (sum(part[key] for part in parts) for key in ("training", "validation"))
        whole = sum(walls.get((one.cell, one.seed), sum(part.values())) for one, part in zip(runs, parts, strict=True))
        total += whole
        times = (max(0.0, whole - training - validation), training, validation, whole)
        lines.append(f"| {cell.name} | {len(runs)} | {' | '.join(span(seconds) for seconds in times)} |")
    lines += ["", f"All reported runs together: {span(total)}. Start-up includes making an init, in the run that had to."]
    return lines


def _write_events(folder: Path, *, page: str, pictures: dict[str, bytes]) -> None:
    """The page and its pictures for TensorBoard, in place of those of an earlier call."""
    from torch.utils.tensorboard import SummaryWriter

    fresh = folder / ".events"
    shutil.rmtree(fresh, ignore_errors=True)
    writer = SummaryWriter(str(fresh))
    writer.add_text("table", page)
    for name, picture in pictures.items():
        pixels = np.array(Image.open(io.BytesIO(picture)).convert("RGB"))
        writer.add_image(name, pixels, dataformats="HWC")
    writer.close()
    for old in folder.glob(f"{EVENTS}*"):
        old.unlink()
    for new in fresh.glob(f"{EVENTS}*"):
        os.replace(new, folder / new.name)
    shutil.rmtree(fresh)
