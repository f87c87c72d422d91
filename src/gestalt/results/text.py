"""Numbers and tables as text: intervals, counts of images, durations, Markdown, LaTeX."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gestalt.results.intervals import LEAST_IMAGES, RESAMPLES, SEED, Interval

NONE = "–"
"""Text for a missing number."""

Texts = tuple[list[str], list[list[str]]]
"""Heads and rows of a table."""

OVER_IMAGES = (
    "Intervals over images: of mIoU by the jackknife (Student's t over pseudo-values; none below "
    f"{LEAST_IMAGES} images, or if more than one class in twenty is in fewer than two images), of "
    "Jaccard similarity, recall and the accuracy of images by the bootstrap "
    f"({RESAMPLES} resamples, seed {SEED}). The jackknife corrects the bias of few images, so an "
    "mIoU may lie outside its interval; on 125 photographs 91 to 93 % of the intervals held "
    "the population's mIoU, and most of the others lay below it."
)
"""Method of the intervals over images, and how often those of few photographs hold."""

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "_%&#${}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        NONE: "--",
    }
    # other characters in LaTeX's default encoding
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def interval_text(interval: Interval | None, *, sign: str = "+", none: str = NONE) -> str:
    """Return an interval such as ``[+0.123, +0.456]``; one without width says that all values that
    it is of are equal.
    """
    if interval is None:
        return none
    equal = " (all equal)" * (interval.low == interval.high)
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]{equal}"


def span(seconds: float) -> str:
    """Return a duration such as ``8 s``, ``4 min 44 s`` or ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def images_text(entry: Mapping[str, Any]) -> str:
    """Return the number of images that an entry of a record was scored on: ``125 of 1449 images``,
    or ``all 1449 images``.

    Without ``images_official``, the size of the published set, it is never ``all``.
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
    """Return ``images_text`` if a part of the set was scored; empty for the whole set, or if its
    size is not recorded.
    """
    text = images_text(entry)
    return "" if re.fullmatch(r"(all )?\S+ images", text) else text


def csv_bounds(interval: Interval | None, prefix: str = "") -> dict[str, float | None]:
    """Return the fields of an interval in CSV."""
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def csv_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return CSV with numbers unrounded; None is an empty field."""
    import pandas as pd

    return str(pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n"))


def markdown_lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown, a line for each row."""
    first, *others = ([text.replace("|", r"\|") for text in row] for row in (heads, *rows))
    return [f"| {' | '.join(row)} |" for row in (first, ["---"] * len(heads), *others)]


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a tabular for ``\\usepackage{booktabs}``; the first ``left`` columns are aligned to
    the left, the others to the right.
    """
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(map(_escaped, heads)))
    text = table.map(_escaped).to_latex(
        index=False, escape=False, column_format="l" * left + "r" * (len(heads) - left)
    )
    # else an argument of the command before it
    return re.sub(r"^(?=[\[*])", "{}", text, flags=re.MULTILINE)


def _escaped(text: str) -> str:
    """Escape LaTeX's special characters."""
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text.translate(_LATEX))
