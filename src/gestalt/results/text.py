"""Format numbers and tables as text: intervals, counts of images, durations, Markdown, LaTeX,
CSV.
"""

import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gestalt.results.intervals import MIN_IMAGES, RESAMPLES, SEED, Interval

NONE = "–"
"""Text for a missing number."""

OVER_IMAGES = (
    "Intervals over images: of mIoU by the jackknife (Student's t over pseudo-values; none below "
    f"{MIN_IMAGES} images, or if more than one class in twenty is in fewer than two images), of "
    "Jaccard similarity, recall and the accuracy of images by the bootstrap "
    f"({RESAMPLES} resamples, seed {SEED}). The jackknife corrects the bias of few images, so an "
    "mIoU may lie outside its interval; on 125 photographs 91 to 93 % of the intervals held "
    "the population's mIoU, and most of the others lay below it."
)
"""Sentences on the method of the intervals over images, and on their coverage for few
photographs.
"""

BRACKETS = re.compile(r"\[[-+]?\d")
"""The beginning of ``interval_text``."""

WORDS = {"miou": "mIoU", "jaccard": "JS"}
"""Names of metrics in papers, where they differ from the key."""

_LATEX = str.maketrans(
    {
        "±": r"$\pm$",
        NONE: "--",
        # LaTeX's default encoding prints other characters
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)
"""Character that pandas does not escape -> LaTeX code that prints it."""


def interval_text(interval: Interval | None, *, sign: str = "+") -> str:
    """Format an interval, such as ``[+0.123, +0.456]``.  An interval without width is described as
    having equal values.
    """
    if interval is None:
        return NONE
    equal = " (all equal)" if interval.low == interval.high else ""
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]{equal}"


def metric_words(metric: str) -> str:
    """Return a metric's key in words, with the metric's name in papers: ``scenes mIoU`` for
    ``scenes/miou``.
    """
    name, _, kind = metric.partition("/")
    return f"{name} {WORDS.get(kind, kind)}".replace("_", " ")


def baselines_text(baselines: Mapping[str, float], *, digits: int = 3) -> str:
    """Format baselines, such as ``constant background 0.024, whole image 0.031``."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.{digits}f}" for name, value in baselines.items()
    )


def amount(count: float, unit: str) -> str:
    """Format a large number with its unit, such as ``4.9 GB`` or ``125 GFLOP``."""
    power = min(6, int(math.log10(max(count, 1)) // 3))
    return f"{count / 1000**power:,.4g} {' kMGTPE'[power].strip()}{unit}"


def span(seconds: float) -> str:
    """Format a duration, such as ``8 s``, ``4 min 44 s`` or ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def images_text(entry: Mapping[str, Any]) -> str:
    """Format the number of scored images of an entry in a results file: ``125 of 1449 images``, or
    ``all 1449 images``.

    The word ``all`` needs ``images_official``, the size of the published set.
    """
    images = entry.get("images", "?")
    official = entry.get("images_official")
    whole = official or entry.get("images_in_set") or images
    if images == whole:
        return f"{images} images" if official is None else f"all {images} images"
    if official is None or images < official:
        return f"{images} of {whole} images"
    return f"{images} images, the published set has {official}"


def part_text(entry: Mapping[str, Any]) -> str:
    """Return ``images_text`` if only a part of the set was scored.  It is empty for the whole set,
    or if the size of the set is not recorded.
    """
    text = images_text(entry)
    return "" if re.fullmatch(r"(all )?\S+ images", text) else text


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: what it shows; may be empty.
        heads: a head for each column.
        rows: texts in the order of the heads; the first names the row.
        numbers: indices of the columns with numbers, which are right-aligned.
        notes: sentences below the table.
        values: name -> unrounded number, for each line of CSV.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: range = range(1, sys.maxsize)
    notes: Sequence[str] = ()
    values: Sequence[Mapping[str, object]] = ()

    def markdown(self, *, aligned: bool = False) -> str:
        """Return heads and rows in Markdown.  ``aligned`` pads the columns for a terminal."""
        lines = [[text.replace("|", r"\|") for text in row] for row in (self.heads, *self.rows)]
        widths = [max(map(len, column)) if aligned else 0 for column in zip(*lines, strict=True)]
        lines.insert(1, ["---".ljust(width, "-") for width in widths])
        return "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)


def markdown(tables: Sequence[Table], method: str) -> str:
    """Return all tables with their notes in Markdown, and ``method`` if they have intervals."""
    parts = []
    for table in tables:
        parts += [table.title, table.markdown(), *table.notes]
    if any(BRACKETS.search(cell) for table in tables for row in table.rows for cell in row):
        parts.append(method)
    return "\n\n".join(filter(None, parts)) + "\n"


def latex(tables: Sequence[Table], method: str) -> str:
    """Return the values of all tables as one LaTeX tabular for ``\\usepackage{booktabs}``, in per
    cent. It has a row for each cell or run, and a column for each metric.

    The notes are added as comments. ``method`` is not added, since the table has no intervals.
    """
    import pandas as pd

    numbers: dict[str, dict[str, str]] = {}
    for value in (value for table in tables for value in table.values):
        row = str(value.get("cell", value.get("run")))
        kind = value.get("view") or value.get("measured_by") or value.get("cause")
        column = metric_words(str(value["metric"])) + (f", {kind}" if kind else "")
        parts = value["mean"], value.get("deviation")
        shown = [f"{100 * number:.1f}" for number in parts if isinstance(number, float)]
        numbers.setdefault(row, {})[column] = " ± ".join(shown) or NONE
        if value.get("paper") is not None:
            numbers[row][f"{column}, the paper's"] = str(value["paper"])
    frame = pd.DataFrame.from_dict(numbers, orient="index").fillna(NONE)
    text = frame.to_latex(escape=True, column_format="l" + "r" * frame.shape[1])
    text = re.sub(r"(?<!\w)-(?=\d)", "$-$", text).translate(_LATEX)
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    spread = ["± is the sample standard deviation over seeds."] if "±" in str(numbers) else []
    lines = [f"% {line}\n" for line in ("In %.", *spread, *notes)]
    # LaTeX would take a bracket or a star as an argument of the preceding command.
    return "".join(lines) + re.sub(r"^(?=[\[*])", "{}", text, flags=re.MULTILINE)


def csv_text(tables: Sequence[Table], method: str = "") -> str:
    """Return the values of all tables as CSV, with unrounded numbers.  None is an empty field."""
    import pandas as pd

    rows = [values for table in tables for values in table.values]
    return str(pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n"))


WRITERS = {"markdown": markdown, "latex": latex, "csv": csv_text}
