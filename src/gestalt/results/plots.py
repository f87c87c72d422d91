"""Plots with matplotlib: bars with intervals, stacked bars, lines."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from gestalt.results.scores import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR = "#7fa6c9"
BASE = "#2f6690"
DOT = "#16324f"
QUIET = "#8a8a8a"
COLOURS = ("#2f6690", "#d1495b", "#66a182", "#edae49", "#6a4c93", "#8d5a2b", "#3a3a3a")
STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "text.parse_math": False,  # names of cells and keys may have dollar signs
    "axes.prop_cycle": f"cycler(color={COLOURS})",
}


@contextmanager
def with_style() -> Iterator[None]:
    """Apply the style of the plots to a function that draws.  matplotlib is imported when the
    function is called.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


@with_style()
def bars(
    scores: Mapping[str, Score],
    *,
    title: str,
    x_label: str,
    base: str = "",
    baselines: Mapping[str, float] | None = None,
) -> "Figure":
    """Draw a bar for each score with its interval over images, a dot for each seed if there are
    several, and the baselines as lines.

    The bar of the base is darker. The label of the axis names what is drawn.
    """
    figure, axes = figure_of(width=8.5, height=1.6 + 0.42 * len(scores))
    axes.barh(
        range(len(scores)),
        [score.mean or 0.0 for score in scores.values()],
        height=0.62,
        color=[BASE if name == base else BAR for name in scores],
    )
    for place, score in enumerate(scores.values()):
        values = list(score.values.values())
        interval = score.over_images or ()
        axes.plot(interval, [place] * len(interval), color=DOT, linewidth=1.6)
        if len(values) > 1:
            axes.plot(
                values,
                place + np.linspace(-0.18, 0.18, len(values)),
                "o",
                color=DOT,
                markersize=3.5,
            )
        axes.annotate(
            score.text(),
            (max([0.0, *interval, *values]), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    for name, value in (baselines or {}).items():
        axes.axvline(value, color=QUIET, linestyle="--", linewidth=1, zorder=0)
        axes.text(value, -0.75, f" {name.replace('_', ' ')}", color=QUIET, fontsize=8, va="center")
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.4, -1.0)
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    drawn = {
        "line: 95 % over images": any(score.over_images for score in scores.values()),
        "dots: seeds": any(len(score.values) > 1 for score in scores.values()),
        "dark: the base": base in scores,
    }
    axes.set(title=title, xlabel=_with_legend(x_label, drawn))
    return figure


def _with_legend(label: str, drawn: Mapping[str, bool]) -> str:
    """Return an axis label, followed in brackets by the names of what is drawn."""
    texts = [text for text, is_drawn in drawn.items() if is_drawn]
    return f"{label}   ({'; '.join(texts)})".strip() if texts else label


@with_style()
def stacked(
    rows: Mapping[str, Mapping[str, float]], *, heads: Sequence[str], title: str
) -> "Figure":
    """Draw the parts of each row as one stacked bar of length 1, in the order of all heads.

    A head has the same colour in every figure. Parts of at least 0.04 show their number.
    """
    from matplotlib.colors import to_rgb

    figure, axes = figure_of(width=8.5, height=1.3 + 0.55 * len(rows))
    left = np.zeros(len(rows))
    for head, colour in zip(heads, COLOURS, strict=False):
        parts = np.array([row.get(head, 0.0) for row in rows.values()])
        if any(head in row for row in rows.values()):
            bar = axes.barh(
                range(len(rows)), parts, height=0.5, left=left, color=colour, label=head
            )
            texts = [f"{part:.2f}" if part >= 0.04 else "" for part in parts]
            ink = "black" if sum(to_rgb(colour)) > 1.5 else "white"
            axes.bar_label(bar, texts, label_type="center", color=ink, fontsize=9)
        left += parts
    for place, name in enumerate(rows):  # above the bar, since names can be long
        axes.text(0, place - 0.32, name, fontsize=9)
    axes.set(title=title, xlim=(0, 1), ylim=(len(rows) - 0.6, -0.7), yticks=())
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@with_style()
def lines(
    series: Mapping[str, Mapping[Any, Score]],
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> "Figure":
    """Draw a line for each name through its scores, and error bars for known intervals.

    The label of the axis then mentions the intervals.
    """
    figure, axes = figure_of(width=7.5, height=4.6)
    for name, scores in series.items():
        means = [score.mean or 0.0 for score in scores.values()]
        (line,) = axes.plot(list(scores), means, marker="o", markersize=4, label=name)
        for place, score in scores.items():
            if score.over_images is not None:
                axes.plot([place] * 2, score.over_images, color=line.get_color(), linewidth=1)
    places = sorted({place for scores in series.values() for place in scores})
    if len(places) <= 6:
        axes.set_xticks(places)
    axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
    known = any(score.over_images for scores in series.values() for score in scores.values())
    label = _with_legend(x_label, {"bars: 95 % over images": known})
    axes.set(title=title, xlabel=label, ylabel=y_label)
    if len(series) > 1:
        figure.legend(loc="outside right upper")
    return figure


@with_style()
def curve(values: Mapping[str, float], title: str) -> "Figure":
    """Draw a small figure with a line through named values.  A nan leaves a gap."""
    figure, axes = figure_of(width=4.4, height=2.8)
    axes.plot(list(values), list(values.values()), marker="o", color=BASE)
    axes.set(title=title, ylim=(0, None))
    return figure


def figure_of(*, width: float, height: float) -> "tuple[Figure, Axes]":
    """Return a figure and its axes; width and height are in inches."""
    from matplotlib.figure import Figure

    # pyplot would keep every figure in a global list
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


@with_style()
def render_figure(figure: "Figure") -> bytes:
    """Return a figure as PNG.  The same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
