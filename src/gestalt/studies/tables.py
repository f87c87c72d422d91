"""Tables as Markdown, CSV and LaTeX: the same numbers, ours in [0, 1], the paper's as it prints them and never in one column with ours."""

from collections.abc import Sequence

from gestalt.ledger.statistics import LEVEL, RESAMPLES, SEED
from gestalt.ledger.text import NONE, both_ends, csv_lines, interval_text, latex_lines, markdown_lines
from gestalt.studies.compare import Row, Table

METHOD = (
    f"Mean ± sample standard deviation over seeds. Intervals are {LEVEL:.0%}: over images by a paired bootstrap ({RESAMPLES} resamples of "
    f"the test images, drawn with seed {SEED}, the same for every cell; mIoU is computed anew from the summed counts of each), over seeds "
    "by Student's t on the paired differences."
)
CSV_HEADS = (
    *("metric", "view", "cell", "settings", "seeds", "scores", "mean", "deviation", "images_low", "images_high"),
    *("against", "difference", "difference_images_low", "difference_images_high", "difference_seeds_low", "difference_seeds_high"),
    *("paper", "paper_is"),
)


def markdown(table: Table, *, said: Sequence[str] = ()) -> str:
    """One table with what it stands beside and its notes, but those that are ``said`` elsewhere."""
    heads, rows = _columns(table)
    lines = [f"### {table.title}", "", *markdown_lines(heads, rows)]
    beside = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in table.baselines.items())
    lines += ["", f"Beside it, in a run of {table.against}: {beside}."] if beside else []
    lines += ["", f"*{table.paper[0].upper()}{table.paper[1:]}; measured by its authors, not by this program.*"] if table.paper else []
    lines += [f"\n{note}" for note in table.notes if note not in said]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """One tabular, for ``\\usepackage{booktabs}``."""
    heads, rows = _columns(table)
    lines = [f"% {table.title}. {METHOD}", *latex_lines(heads, rows, left=len(table.heads))]
    lines += [f"% {table.paper}"] if table.paper else []
    lines += [f"% {note}" for note in table.notes]
    return "\n".join(lines) + "\n"


def csv_text(tables: Sequence[Table]) -> str:
    """All tables, a line a cell, numbers unrounded."""
    rows: list[list[object]] = []
    for table in tables:
        for row in table.rows:
            settings = " ".join(f"{head}={value}" for head, value in zip(table.heads, row.settings, strict=True))
            seeds, scores = (" ".join(map(str, part)) for part in (row.scores.keys(), row.scores.values()))
            cells: list[object] = [table.metric, table.view, row.cell, settings, seeds, scores, row.mean, row.deviation]
            cells += [*both_ends(row.over_images), table.against]
            if row.difference is None:
                cells += [None] * 5
            else:
                cells += [row.difference.mean, *both_ends(row.difference.over_images), *both_ends(row.difference.over_seeds)]
            rows.append([*cells, row.paper, table.paper])
    return csv_lines(CSV_HEADS, rows)


def _columns(table: Table) -> tuple[list[str], list[list[str]]]:
    """Heads and texts of a table for reading."""
    heads = [head.rpartition(".")[2] if len(table.heads) == 1 else head for head in table.heads]
    heads += ["seeds", table.metric, "over images", f"difference to {table.against}", "difference, over images", "difference, over seeds"]
    rows = [[*row.settings, *_own(row), *_difference(row, against=table.against)] for row in table.rows]
    if table.paper:
        heads.append(table.paper_head)
        rows = [[*texts, NONE if row.paper is None else f"{row.paper}"] for texts, row in zip(rows, table.rows, strict=True)]
    return heads, rows


def _own(row: Row) -> list[str]:
    if row.mean is None:
        return ["0", "no result", NONE]
    deviation = "" if row.deviation is None else f" ± {row.deviation:.3f}"
    return [str(len(row.scores)), f"{row.mean:.3f}{deviation}", interval_text(row.over_images, sign="")]


def _difference(row: Row, *, against: str) -> list[str]:
    if row.difference is None:
        return ["base" if row.cell == against else NONE, NONE, NONE]
    return [f"{row.difference.mean:+.3f}", interval_text(row.difference.over_images), interval_text(row.difference.over_seeds)]
