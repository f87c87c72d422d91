"""A comparison as Markdown, LaTeX and CSV."""

from gestalt.ledger.compare import Comparison
from gestalt.ledger.statistics import LEVEL, RESAMPLES, SEED
from gestalt.ledger.text import NONE, both_ends, csv_lines, interval_text, latex_lines, markdown_lines

METHOD = (
    f"In brackets: {LEVEL:.0%} over images by a bootstrap ({RESAMPLES} resamples of the test images, drawn with seed {SEED}, the same for "
    "every run, so that differences are paired; mIoU, recall, the worst group and differences between places are computed anew from the "
    "summed counts of each; captions are drawn with their image, and what they are searched among stays; "
    "none where one resample in twenty lacks a group)."
)
CSV_HEADS = (
    *("run", "path", "metric", "measured_by", "value", "low", "high", "against", "difference", "difference_low", "difference_high"),
    *("images", "images_official"),
)


def columns_and_rows(table: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heads and texts: of each column the value with its interval, and the difference to the first where there is one."""
    heads, rows = ["run"], [[one.label] for one in table.results]
    for column in table.columns:
        compared = any(cell.difference is not None for cell in column.cells.values())
        heads += [column.title, *([f"difference to {column.against}"] if compared else [])]
        for one, row in zip(table.results, rows, strict=True):
            cell = column.cells.get(one.label)
            row.append(NONE if cell is None else f"{cell.value:.3f} {_bracket(interval_text(cell.over_images, sign=''))}".strip())
            if compared and (cell is None or cell.difference is None):
                row.append("base" if one.label == column.against else NONE)
            elif compared and cell is not None:
                row.append(f"{cell.difference:+.3f} {_bracket(interval_text(cell.difference_over_images))}".strip())
    return heads, rows


def _bracket(text: str) -> str:
    return "" if text == NONE else text


def markdown(table: Comparison) -> str:
    """One table, how its intervals came about, and its notes."""
    heads, rows = columns_and_rows(table)
    lines = [*markdown_lines(heads, rows), "", METHOD]
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)]) + "\n"


def latex(table: Comparison) -> str:
    """One tabular, for ``\\usepackage{booktabs}``."""
    heads, rows = columns_and_rows(table)
    return "\n".join([f"% {METHOD}", *latex_lines(heads, rows, left=1), *(f"% {note}" for note in table.notes)]) + "\n"


def csv_text(table: Comparison) -> str:
    """A line a number, unrounded."""
    rows: list[list[object]] = []
    for column in table.columns:
        for one in table.results:
            cell = column.cells.get(one.label)
            if cell is not None:
                start: list[object] = [one.label, one.path, column.metric, column.how, cell.value, *both_ends(cell.over_images)]
                entry = next(iter(one.entries(column.metric)), {})
                counted = [entry.get(key) for key in ("images", "images_official")]
                rows.append([*start, column.against, cell.difference, *both_ends(cell.difference_over_images), *counted])
    return csv_lines(CSV_HEADS, rows)


WRITERS = {"markdown": markdown, "latex": latex, "csv": csv_text}
