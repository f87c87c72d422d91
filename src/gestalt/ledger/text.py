"""Tables of numbers as text: Markdown, LaTeX, CSV, and how an interval is written."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gestalt.ledger.statistics import Interval

NONE = "–"
"""Where there is no number."""


def interval_text(interval: Interval | None, *, sign: str = "+") -> str:
    """``[+0.123, +0.456]``."""
    return NONE if interval is None else f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def images_text(entry: Mapping[str, Any]) -> str:
    """How many images an entry of a record stands on, of how many: ``125 of 1449 images``, or ``all 1449 images``.

    Of a record that does not say how many the published set has, no more is said than it holds.
    """
    images, official = entry.get("images", "?"), entry.get("images_official")
    if official is None:
        whole = entry.get("images_in_set")
        return f"{images} images" if whole in (None, images) else f"{images} of {whole} images"
    if images == official:
        return f"all {images} images"
    return f"{images} of {official} images" if images < official else f"{images} images, the published set has {official}"


def part_text(entry: Mapping[str, Any]) -> str:
    """The same where it is not the published set that was scored; empty where it is, or nobody knows."""
    official = entry.get("images_official")
    whole = entry.get("images_in_set") if official is None else official
    return "" if whole in (None, entry.get("images")) else images_text(entry)


def both_ends(interval: Interval | None) -> tuple[float | None, float | None]:
    """Low and high, or nothing twice."""
    return (None, None) if interval is None else (interval.low, interval.high)


def markdown_lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, a line a row."""
    escaped = [[text.replace("|", r"\|") for text in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *escaped)]


def latex_lines(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """A tabular for ``\\usepackage{booktabs}``, whose first ``left`` columns are words."""
    start = rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(heads) - left)}}}"
    lines = [" & ".join(map(latex, row)) + r" \\" for row in (heads, *rows)]
    return [start, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"]


def latex(text: str) -> str:
    """Text with LaTeX's own characters written out."""
    for character, written in {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$"}.items():
        text = text.replace(character, written)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text.replace("±", r"$\pm$").replace(NONE, "--"))


def csv_lines(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """CSV with numbers unrounded; None is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return out.getvalue()
