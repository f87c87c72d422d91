"""Tables of a grid as Markdown, CSV and LaTeX; our numbers in [0, 1], the paper's in a column of their own, as it prints them."""

from collections.abc import Sequence

from gestalt.ledger.ablation import Row, Table
from gestalt.ledger.scores import Score
from gestalt.ledger.statistics import LEVEL
from gestalt.ledger.text import NONE, OVER_IMAGES, both_ends, csv_lines, interval_text, latex_lines, markdown_lines, score_text

METHOD = (
    f"Mean ± sample standard deviation over seeds. Intervals are {LEVEL:.0%}, paired for differences; those over seeds are Student's t. "
    f"{OVER_IMAGES}"
)
CSV_HEADS = (
    *("metric", "view", "cell", "settings", "seeds", "scores", "mean", "deviation", "images_low", "images_high"),
    *("against", "difference", "difference_images_low", "difference_images_high", "difference_seeds_low", "difference_seeds_high"),
    *("paper", "paper_is"),
)


def markdown(table: Table, *, omit: Sequence[str] = ()) -> str:
    """Return one table with its baselines and its notes, except those to ``omit``."""
    heads, rows = _heads_and_rows(table)
    lines = [f"### {table.title}", "", *markdown_lines(heads, rows)]
    beside = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in table.baselines.items())
    lines += ["", f"Beside it, in a run of {table.design.against}: {beside}."] if beside else []
    lines += ["", f"*{table.paper[0].upper()}{table.paper[1:]}; measured by its authors, not by this program.*"] if table.paper else []
    lines += [f"\n{note}" for note in table.notes if note not in omit]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """Return one tabular, for ``\\usepackage{booktabs}``."""
    heads, rows = _heads_and_rows(table)
    lines = [f"% {table.title}. {METHOD}", *latex_lines(heads, rows, left=len(table.design.heads))]
    lines += [f"% {note}" for note in (table.paper, *table.notes) if note]
    return "\n".join(lines) + "\n"


def csv_text(tables: Sequence[Table]) -> str:
    """Return all tables, a line for each cell, numbers unrounded."""
    return csv_lines(CSV_HEADS, [_csv_row(table, row) for table in tables for row in table.rows])


def _csv_row(table: Table, row: Row) -> list[object]:
    score, difference = row.score, row.score.difference
    settings = " ".join(f"{head}={value}" for head, value in zip(table.design.heads, row.settings, strict=True))
    seeds, values = (" ".join(map(str, part)) for part in (score.values.keys(), score.values.values()))
    measured = [table.metric, table.view, row.cell, settings, seeds, values, score.mean, score.deviation, *both_ends(score.over_images)]
    compared: list[float | None] = [None] * 5
    if difference is not None:
        compared = [difference.mean, *both_ends(difference.over_images), *both_ends(difference.over_seeds)]
    return [*measured, table.design.against, *compared, row.paper, table.paper]


def _heads_and_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the texts of a table for reading."""
    design = table.design
    heads = [head.rpartition(".")[2] if len(design.heads) == 1 else head for head in design.heads]
    heads += ["seeds", table.metric, "over images", f"difference to {design.against}", "difference, over images", "difference, over seeds"]
    rows = [[*row.settings, *_score_texts(row.score), *_difference_texts(row, against=design.against)] for row in table.rows]
    paper = design.paper_beside(table.metric)
    if paper is not None:
        heads.append(f"the paper's, {paper.source.rpartition(', ')[2]}")
        rows = [[*texts, NONE if row.paper is None else f"{row.paper}"] for texts, row in zip(rows, table.rows, strict=True)]
    return heads, rows


def _score_texts(score: Score) -> list[str]:
    return [str(len(score.values)), score_text(score.mean, score.deviation), interval_text(score.over_images, sign="")]


def _difference_texts(row: Row, *, against: str) -> list[str]:
    difference = row.score.difference
    if difference is None:
        return ["base" if row.cell == against else NONE, NONE, NONE]
    return [f"{difference.mean:+.3f}", interval_text(difference.over_images), interval_text(difference.over_seeds)]
