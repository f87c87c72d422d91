"""Plots of a table: bars with intervals, a heat map of two varied keys, curves over test sizes.  PNG by Agg; nothing global is touched."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gestalt.ledger.statistics import LEVEL
from gestalt.studies.compare import Row, Table

BAR, BASE, DOT, QUIET = "#7fa6c9", "#2f6690", "#16324f", "#8a8a8a"
COLOURS = ("#2f6690", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#8d5a2b", "#3a3a3a")
DPI = 150


def bars(table: Table, *, title: str) -> bytes:
    """A bar a cell with its interval over images, a dot a seed, and the baselines as lines; the base is darker."""
    figure, axes = _figure(width=8.5, height=1.6 + 0.42 * len(table.rows))
    for place, row in enumerate(table.rows):
        _bar(axes, row, place=place, base=row.cell == table.against)
    for name, value in table.baselines.items():
        if name in ("constant_background", "whole_image"):
            axes.axvline(value, color=QUIET, linestyle="--", linewidth=1, zorder=0)
            axes.text(value, -0.75, f" {name.replace('_', ' ')}", color=QUIET, fontsize=8, va="center")
    axes.set_yticks(range(len(table.rows)), [row.cell for row in table.rows])
    axes.set_ylim(len(table.rows) - 0.4, -1.0)
    axes.set_xlim(left=0)
    axes.margins(x=0.18)
    axes.set_xlabel(f"{table.title}   (line: {LEVEL:.0%} over test images; dots: seeds; dark: the base)")
    axes.set_title(title, fontsize=11, loc="left")
    return _png(figure)


def _bar(axes: Axes, row: Row, *, place: int, base: bool) -> None:
    if row.mean is None:
        axes.text(0, place, " no result", color=QUIET, va="center", fontsize=9)
        return
    axes.barh(place, row.mean, height=0.62, color=BASE if base else BAR)
    end = row.mean
    if row.over_images is not None:
        axes.plot([row.over_images.low, row.over_images.high], [place, place], color=DOT, linewidth=1.6, solid_capstyle="butt")
        end = max(end, row.over_images.high)
    if len(row.scores) > 1:
        heights = place + np.linspace(-0.18, 0.18, len(row.scores))
        axes.plot(list(row.scores.values()), heights, "o", color=DOT, markersize=3.5)
        end = max(end, *row.scores.values())
    deviation = "" if row.deviation is None else f" ± {row.deviation:.3f}"
    axes.annotate(f"{row.mean:.3f}{deviation}", (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)


def heat_map(table: Table, *, title: str) -> bytes | None:
    """Means over the two varied keys, a column a value of the second; None for another number of keys."""
    if len(table.heads) != 2:
        return None
    down, across = (list(dict.fromkeys(row.settings[axis] for row in table.rows)) for axis in (0, 1))
    values = np.full((len(down), len(across)), np.nan)
    figure, axes = _figure(width=2.6 + 1.5 * len(across), height=1.9 + 0.8 * len(down))
    for row in table.rows:
        values[down.index(row.settings[0]), across.index(row.settings[1])] = np.nan if row.mean is None else row.mean
    axes.imshow(np.ma.masked_invalid(values), cmap="viridis", aspect="auto")
    axes.set_facecolor("#eeeeee")
    low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (0.0, 1.0)
    for row in table.rows:
        place = (across.index(row.settings[1]), down.index(row.settings[0]))
        text = "no result" if row.mean is None else f"{row.mean:.3f}" + ("" if row.deviation is None else f"\n± {row.deviation:.3f}")
        dark = row.mean is not None and row.mean < low + 0.6 * (high - low)
        colour = QUIET if row.mean is None else "white" if dark else "black"
        weight = "bold" if row.cell == table.against else "normal"
        axes.text(*place, text, ha="center", va="center", color=colour, fontsize=12, fontweight=weight)
    axes.set_xticks(range(len(across)), across)
    axes.set_yticks(range(len(down)), down)
    axes.set_xlabel(table.heads[1])
    axes.set_ylabel(table.heads[0])
    axes.tick_params(length=0)
    axes.set_title(f"{title}\n{table.title} (bold: the base)", fontsize=11, loc="left")
    return _png(figure)


def curves(tables: Sequence[Table], *, sizes: Sequence[int], title: str) -> bytes:
    """One metric over test sizes, a line a cell with its band over images; a table a size."""
    figure, axes = _figure(width=7.5, height=4.6)
    for index, row in enumerate(tables[0].rows):
        colour = COLOURS[index % len(COLOURS)]
        rows = [next(one for one in table.rows if one.cell == row.cell) for table in tables]
        drawn = [(size, one) for size, one in zip(sizes, rows, strict=True) if one.mean is not None]
        axes.plot([size for size, _ in drawn], [one.mean or 0.0 for _, one in drawn], "o-", color=colour, label=row.cell, markersize=4)
        sure = [(size, one.over_images) for size, one in drawn if one.over_images is not None]
        lows, highs = [interval.low for _, interval in sure], [interval.high for _, interval in sure]
        axes.fill_between([size for size, _ in sure], lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xlabel(f"test size, pixels a side   (band: {LEVEL:.0%} over test images)")
    axes.set_ylabel(tables[0].metric)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.set_title(title, fontsize=11, loc="left")
    return _png(figure)


def _figure(*, width: float, height: float) -> tuple[Figure, Axes]:
    """Inches; without the lines at the top and on the right."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
