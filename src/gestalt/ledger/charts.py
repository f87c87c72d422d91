"""Charts as SVG: lines over a number, and a confusion matrix.  C classes."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gestalt.ledger.statistics import Interval

COLOURS = ("#2f6690", "#c2513b", "#4f9d69", "#b8860b", "#7a5aa6", "#5c6b73")
WIDTH, HEIGHT, LEFT, BELOW, ABOVE = 560, 260, 58, 44, 12
MATRIX = 480
"""Pixels that a confusion matrix fills, within the limits of ``CELL``."""

CELL = (14, 26)
"""Least and most pixels of a cell that has names beside it."""

LABELLED = 60
"""Classes that are named beside a confusion matrix; more would not be legible."""


class Point(NamedTuple):
    """A place on a line, and how sure its height is."""

    x: float
    y: float
    sure: Interval | None = None


def lines(series: Sequence[tuple[str, Sequence[Point]]], *, title: str, across: str, up: str, from_zero: bool = True) -> str:
    """A line a name, with dots where there are few points and a bar where a height's interval is known."""
    points = [point for _, each in series for point in each]
    heights = [value for point in points for value in (point.y, *(point.sure or ()))]
    low, high = (min(0.0, *heights), max(heights)) if from_zero else (min(heights), max(heights))
    places = sorted({point.x for point in points})
    ups, acrosses = ticks(low, high), places if 1 < len(places) <= 6 else ticks(places[0], places[-1])
    parts = [*_grid(ups, acrosses), _words(across, WIDTH / 2, HEIGHT - 4), _words(up, LEFT, ABOVE - 2, anchor="start")]
    for number, (name, each) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        placed = [(_along(acrosses, point.x), _upward(ups, point.y)) for point in each]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{way}"/>')
        if len(each) <= 30:
            for (x, y), point in zip(placed, each, strict=True):
                said = escape(f"{name}: {up} {point.y:.4g} at {across} {point.x:g}")
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{said}</title></circle>')
                if point.sure is not None:
                    bottom, top = (_upward(ups, value) for value in point.sure)
                    parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" stroke="{colour}" stroke-width="1.5"/>')
        if len(series) > 1:
            parts.append(f'<rect x="{LEFT + 12 + 150 * number}" y="{ABOVE}" width="10" height="10" fill="{colour}"/>')
            parts.append(_words(name, LEFT + 28 + 150 * number, ABOVE + 9, anchor="start"))
    return _svg("".join(parts), title=title, width=WIDTH, height=HEIGHT)


def ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers that hold low and high between their first and last."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(number * step, 12) for number in range(first, last + 1)]


def confusion_chart(confusion: NDArray[np.int64], names: Sequence[str], *, title: str) -> str:
    """Shares of each true class (rows) by predicted class (columns), darker for more; classes that occur in neither are left out."""
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    part = confusion[np.ix_(shown, shown)]
    share = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    named = len(shown) <= LABELLED
    cell = min(CELL[1], max(CELL[0], MATRIX // max(1, len(shown)))) if named else max(3, 720 // len(shown))
    left, top = (110, 100) if named else (0, 0)
    side = cell * len(shown)
    parts = [f'<rect class="axis" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for row, column in np.argwhere(share >= 0.005).tolist():
        said = escape(f"{names[shown[row]]} taken for {names[shown[column]]}: {100 * share[row, column]:.1f} %")
        at = f'x="{left + column * cell}" y="{top + row * cell}" width="{cell}" height="{cell}"'
        parts.append(f'<rect {at} fill="var(--bar)" fill-opacity="{math.sqrt(share[row, column]):.2f}"><title>{said}</title></rect>')
    for number, index in enumerate(shown.tolist() if named else []):
        middle = number * cell + cell / 2
        parts.append(_words(_short(names[index]), left - 4, top + middle + 4, anchor="end"))
        turned = f'transform="rotate(-60 {left + middle:.1f} {top - 5})" '
        parts.append(_words(_short(names[index]), left + middle, top - 5, anchor="start", more=turned))
    return _svg("".join(parts), title=title, width=left + side + (70 if named else 0), height=top + side + 2)


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _grid(ups: Sequence[float], acrosses: Sequence[float]) -> list[str]:
    """Lines at the ticks, and what they are."""
    parts = []
    for value in ups:
        y = _upward(ups, value)
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_words(f"{value:g}", LEFT - 6, y + 4, anchor="end"))
    return parts + [_words(f"{value:g}", _along(acrosses, value), HEIGHT - BELOW + 18) for value in acrosses]


def _along(acrosses: Sequence[float], value: float) -> float:
    return LEFT + (WIDTH - 12 - LEFT) * (value - acrosses[0]) / (acrosses[-1] - acrosses[0])


def _upward(ups: Sequence[float], value: float) -> float:
    top = ABOVE + 16
    return HEIGHT - BELOW - (HEIGHT - BELOW - top) * (value - ups[0]) / (ups[-1] - ups[0])


def _words(words: str, x: float, y: float, *, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def _svg(inside: str, *, title: str, width: float, height: float) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg role="img" {size}><title>{escape(title)}</title>{inside}</svg>'
