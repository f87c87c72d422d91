"""A comparison as Markdown, LaTeX and CSV."""

from gestalt.ledger.compare import Column, Comparison
from gestalt.ledger.scores import Score
from gestalt.ledger.statistics import LEVEL, Interval
from gestalt.ledger.text import NONE, OVER_IMAGES, both_ends, csv_lines, interval_text, latex_lines, markdown_lines

METHOD = (
    f"In brackets: {LEVEL:.0%} over images, paired for differences. {OVER_IMAGES} Recall, the worst group and differences between places "
    "are computed anew from the summed counts of each resample; captions are drawn with their image, and the images or captions they are "
    "searched among stay the same; there is no interval if more than one resample in twenty lacks a group."
)
CSV_HEADS = (
    *("run", "path", "metric", "measured_by", "value", "low", "high", "against", "difference", "difference_low", "difference_high"),
    *("images", "images_official"),
)


def heads_and_rows(table: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the texts of a table: for each column the value, and the difference to its first result if there are several."""
    heads, rows = ["run"], [[result.label] for result in table.results]
    for column in table.columns:
        has_differences = len(column.scores) > 1
        heads += [column.title, *([f"difference to {column.against}"] if has_differences else [])]
        for result, row in zip(table.results, rows, strict=True):
            score = column.scores.get(result.label)
            row.append(NONE if score is None else _with_interval(f"{score.mean:.3f}", score.over_images, sign=""))
            if has_differences:
                row.append(_difference_text(column, result.label, score))
    return heads, rows


def _difference_text(column: Column, label: str, score: Score | None) -> str:
    if label == column.against:
        return "base"
    if score is None or score.difference is None:
        return NONE
    return _with_interval(f"{score.difference.mean:+.3f}", score.difference.over_images, sign="+")


def _with_interval(number: str, interval: Interval | None, *, sign: str) -> str:
    return number if interval is None else f"{number} {interval_text(interval, sign=sign)}"


def markdown(table: Comparison) -> str:
    """Return one table, how its intervals are computed, and its notes."""
    heads, rows = heads_and_rows(table)
    return "\n".join([*markdown_lines(heads, rows), "", METHOD, *(f"\n{note}" for note in table.notes)]) + "\n"


def latex(table: Comparison) -> str:
    """Return one tabular, for ``\\usepackage{booktabs}``."""
    heads, rows = heads_and_rows(table)
    return "\n".join([f"% {METHOD}", *latex_lines(heads, rows, left=1), *(f"% {note}" for note in table.notes)]) + "\n"


def csv_text(table: Comparison) -> str:
    """Return a line for each number, unrounded."""
    rows: list[list[object]] = []
    for column in table.columns:
        for result in table.results:
            score = column.scores.get(result.label)
            if score is None:
                continue
            measured = [result.label, result.path, column.metric, column.distinction, score.mean, *both_ends(score.over_images)]
            difference = score.difference
            compared = [None] * 3 if difference is None else [difference.mean, *both_ends(difference.over_images)]
            entry = result.entry(column.metric)
            rows.append([*measured, column.against, *compared, entry.get("images"), entry.get("images_official")])
    return csv_lines(CSV_HEADS, rows)


WRITERS = {"markdown": markdown, "latex": latex, "csv": csv_text}
