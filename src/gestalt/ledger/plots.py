"""Plots of a grid's tables as PNG: bars with intervals, a heat map of two varied keys, curves over test sizes."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gestalt.ledger.ablation import Row, Table
from gestalt.ledger.statistics import LEVEL
from gestalt.ledger.text import score_text

BAR, BASE, DOT, QUIET = "#7fa6c9", "#2f6690", "#16324f", "#8a8a8a"
COLOURS = ("#2f6690", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#8d5a2b", "#3a3a3a")
DPI = 150


def bars(table: Table) -> bytes:
    """Draw a bar for each cell with its interval over images, a dot for each seed, and the baselines as lines; the base is darker."""
    figure, axes = _figure(width=8.5, height=1.6 + 0.42 * len(table.rows))
    for place, row in enumerate(table.rows):
        _bar(axes, row, place=place, base=row.cell == table.design.against)
    for name, value in table.baselines.items():
        if name in ("constant_background", "whole_image"):
            axes.axvline(value, color=QUIET, linestyle="--", linewidth=1, zorder=0)
            axes.text(value, -0.75, f" {name.replace('_', ' ')}", color=QUIET, fontsize=8, va="center")
    axes.set_yticks(range(len(table.rows)), [row.cell for row in table.rows])
    axes.set_ylim(len(table.rows) - 0.4, -1.0)
    axes.set_xlim(left=0)
    axes.margins(x=0.18)
    axes.set_xlabel(f"{table.title}   (line: {LEVEL:.0%} over test images; dots: seeds; dark: the base)")
    axes.set_title(table.design.title, fontsize=11, loc="left")
    return _png(figure)


def _bar(axes: Axes, row: Row, *, place: int, base: bool) -> None:
    score = row.score
    if score.mean is None:
        axes.text(0, place, f" {score_text(None, None)}", color=QUIET, va="center", fontsize=9)
        return
    axes.barh(place, score.mean, height=0.62, color=BASE if base else BAR)
    end = score.mean
    if score.over_images is not None:
        axes.plot([*score.over_images], [place, place], color=DOT, linewidth=1.6, solid_capstyle="butt")
        end = max(end, score.over_images.high)
    if len(score.values) > 1:
        heights = place + np.linspace(-0.18, 0.18, len(score.values))
        axes.plot(list(score.values.values()), heights, "o", color=DOT, markersize=3.5)
        end = max(end, *score.values.values())
    label = score_text(score.mean, score.deviation)
    axes.annotate(label, (end, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)


def heat_map(table: Table) -> bytes | None:
    """Draw the means over two varied keys, a column for each value of the second; None for another number of keys."""
    if len(table.design.heads) != 2:
        return None
    down, across = (list(dict.fromkeys(row.settings[axis] for row in table.rows)) for axis in (0, 1))
    means = np.full((len(down), len(across)), np.nan)
    places = [(down.index(row.settings[0]), across.index(row.settings[1])) for row in table.rows]
    for row, place in zip(table.rows, places, strict=True):
        means[place] = np.nan if row.score.mean is None else row.score.mean
    figure, axes = _figure(width=2.6 + 1.5 * len(across), height=1.9 + 0.8 * len(down))
    axes.imshow(np.ma.masked_invalid(means), cmap="viridis", aspect="auto")
    axes.set_facecolor("#eeeeee")
    low, high = (np.nanmin(means), np.nanmax(means)) if np.isfinite(means).any() else (0.0, 1.0)
    for row, (line, column) in zip(table.rows, places, strict=True):
        text = score_text(row.score.mean, row.score.deviation, separator="\n")
        on_dark = means[line, column] < low + 0.6 * (high - low)
        colour = QUIET if row.score.mean is None else "white" if on_dark else "black"
        weight = "bold" if row.cell == table.design.against else "normal"
        axes.text(column, line, text, ha="center", va="center", color=colour, fontsize=12, fontweight=weight)
    axes.set_xticks(range(len(across)), across)
    axes.set_yticks(range(len(down)), down)
    axes.set_xlabel(table.design.heads[1])
    axes.set_ylabel(table.design.heads[0])
    axes.tick_params(length=0)
    axes.set_title(f"{table.design.title}\n{table.title} (bold: the base)", fontsize=11, loc="left")
    return _png(figure)


def curves(tables: Sequence[Table]) -> bytes:
    """Draw one metric over test sizes, a line for each cell with its band over images; ``tables`` has one for each size of the design."""
    sizes = tables[0].design.sizes
    figure, axes = _figure(width=7.5, height=4.6)
    for index, row in enumerate(tables[0].rows):
        colour = COLOURS[index % len(COLOURS)]
        scores = [next(other.score for other in table.rows if other.cell == row.cell) for table in tables]
        means = [(size, score.mean) for size, score in zip(sizes, scores, strict=True) if score.mean is not None]
        axes.plot([size for size, _ in means], [mean for _, mean in means], "o-", color=colour, label=row.cell, markersize=4)
        bands = [(size, *score.over_images) for size, score in zip(sizes, scores, strict=True) if score.over_images is not None]
        places, lows, highs = ([band[part] for band in bands] for part in range(3))
        axes.fill_between(places, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xlabel(f"test size, pixels a side   (band: {LEVEL:.0%} over test images)")
    axes.set_ylabel(tables[0].metric)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.set_title(tables[0].design.title, fontsize=11, loc="left")
    return _png(figure)


def _figure(*, width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, without the spines at the top and on the right."""
    # not pyplot, which keeps every figure in a global list
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
