"""Charts as SVG: lines, and a confusion matrix.  C classes."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.ledger.statistics import Interval

COLOURS = ("#2f6690", "#c2513b", "#4f9d69", "#b8860b", "#7a5aa6", "#5c6b73")
WIDTH, HEIGHT, LEFT, RIGHT, BELOW, ABOVE, LEGEND = 560, 260, 58, 12, 44, 12, 16
DOTS = 30
"""Points of a line, at most, that get a dot each."""

MATRIX = 480
"""Side of a confusion matrix in pixels, within the limits of ``CELL``."""

CELL = (14, 26)
"""Smallest and largest side in pixels of a cell with names beside it."""

LABELLED = 60
"""Classes, at most, that are named beside a confusion matrix; more would not be legible."""


class Point(NamedTuple):
    """A point of a line, with the interval of its value if known."""

    x: float
    y: float
    interval: Interval | None = None


class Axes(NamedTuple):
    """Ticks of both axes; they span the frame."""

    x: Sequence[float]
    y: Sequence[float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point in the picture, in pixels."""
        width, height = WIDTH - RIGHT - LEFT, HEIGHT - BELOW - ABOVE - LEGEND
        left = LEFT + width * (x - self.x[0]) / (self.x[-1] - self.x[0])
        return left, HEIGHT - BELOW - height * (y - self.y[0]) / (self.y[-1] - self.y[0])


def lines(series: Sequence[tuple[str, Sequence[Point]]], *, title: str, x_label: str, y_label: str, from_zero: bool = True) -> str:
    """Draw a line for each name, with dots if there are few points, and bars for known intervals."""
    points = [point for _, line in series for point in line]
    values = [value for point in points for value in (point.y, *(point.interval or ()))]
    places = sorted({point.x for point in points})
    axes = Axes(
        places if 1 < len(places) <= 6 else ticks(places[0], places[-1]),
        ticks(min(0.0, *values) if from_zero else min(values), max(values)),
    )
    parts = [*_grid(axes), _text(x_label, WIDTH / 2, HEIGHT - 4), _text(y_label, LEFT, ABOVE - 2, anchor="start")]
    for number, (name, line) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (axes.place(point.x, point.y) for point in line))
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>')
        if len(line) <= DOTS:
            parts += [_dot(axes, point, colour=colour, title=f"{name}: {y_label} {point.y:.4g} at {x_label} {point.x:g}") for point in line]
        if len(series) > 1:
            parts.append(f'<rect x="{LEFT + 12 + 150 * number}" y="{ABOVE}" width="10" height="10" fill="{colour}"/>')
            parts.append(_text(name, LEFT + 28 + 150 * number, ABOVE + 9, anchor="start"))
    return _svg("".join(parts), title=title, width=WIDTH, height=HEIGHT)


def _dot(axes: Axes, point: Point, *, colour: str, title: str) -> str:
    """Draw a point, and its interval if known."""
    x, y = axes.place(point.x, point.y)
    dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{escape(title)}</title></circle>'
    if point.interval is None:
        return dot
    (_, bottom), (_, top) = (axes.place(point.x, end) for end in point.interval)
    return f'{dot}<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def ticks(low: float, high: float) -> list[float]:
    """Return a few round numbers whose first and last enclose low and high."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(number * step, 12) for number in range(first, last + 1)]


def confusion_chart(confusion: NDArray[np.int64], names: Sequence[str], *, title: str) -> str:
    """Draw the shares of each true class (rows) by predicted class (columns), darker for more; classes without pixels are left out."""
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    part = confusion[np.ix_(shown, shown)]
    share = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    named = len(shown) <= LABELLED
    cell = min(CELL[1], max(CELL[0], MATRIX // max(1, len(shown)))) if named else max(3, 720 // len(shown))
    left, top = (110, 100) if named else (0, 0)
    side = cell * len(shown)
    parts = [f'<rect class="axis" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for row, column in np.argwhere(share >= 0.005).tolist():
        label = escape(f"{names[shown[row]]} taken for {names[shown[column]]}: {100 * share[row, column]:.1f} %")
        frame = f'x="{left + column * cell}" y="{top + row * cell}" width="{cell}" height="{cell}"'
        parts.append(f'<rect {frame} fill="var(--bar)" fill-opacity="{math.sqrt(share[row, column]):.2f}"><title>{label}</title></rect>')
    for number, index in enumerate(shown.tolist() if named else []):
        middle = number * cell + cell / 2
        parts.append(_text(_short(names[index]), left - 4, top + middle + 4, anchor="end"))
        rotation = f'transform="rotate(-60 {left + middle:.1f} {top - 5})" '
        parts.append(_text(_short(names[index]), left + middle, top - 5, anchor="start", attributes=rotation))
    return _svg("".join(parts), title=title, width=left + side + (70 if named else 0), height=top + side + 2)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _grid(axes: Axes) -> list[str]:
    """Draw a line at each tick of y, and the numbers at all ticks."""
    parts = []
    for value in axes.y:
        _, y = axes.place(axes.x[0], value)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(f"{value:g}", LEFT - 6, y + 4, anchor="end"))
    return parts + [_text(f"{value:g}", axes.place(value, axes.y[0])[0], HEIGHT - BELOW + 18) for value in axes.x]


def _text(text: str, x: float, y: float, *, anchor: str = "middle", attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {attributes}>{escape(text)}</text>'


def _svg(content: str, *, title: str, width: float, height: float) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg role="img" {size}><title>{escape(title)}</title>{content}</svg>'
