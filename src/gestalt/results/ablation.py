"""Tables of a grid: for each metric a row per cell, with its mean over seeds, its paired difference
to the base, and the paper's number.

Our numbers are in [0, 1]; the paper's have a column of their own, as it prints them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gestalt.results.comparability import run_notes, setup_differences, split_by_measurement
from gestalt.results.design import Design
from gestalt.results.intervals import LEVEL
from gestalt.results.reading import GridResults, Runs
from gestalt.results.result import Result, Score, companions, headlines, score_rows
from gestalt.results.text import (
    NONE,
    OVER_IMAGES,
    Texts,
    csv_bounds,
    csv_table,
    interval_text,
    latex_table,
    markdown_lines,
    part_text,
)
from gestalt.support.typed import ConfigError

METHOD = (
    f"Mean ± sample standard deviation over seeds. Intervals are {LEVEL:.0%}, paired for "
    f"differences; those over seeds are Student's t. {OVER_IMAGES}"
)


class Table(NamedTuple):
    """One metric in one view.

    Attributes:
        metric: its key.
        view: its name.
        design: the grid.
        scores: by cell, in the grid's order.
        papers: the paper's numbers by cell, without those of runs that used another init than the
            cell names.
        baselines: baselines of the metric, from a run of the base cell.
        notes: differences that the numbers do not show.
    """

    metric: str
    view: str
    design: Design
    scores: dict[str, Score]
    papers: dict[str, float]
    baselines: dict[str, float]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Metric and view."""
        return f"{self.metric}, {self.view}" if self.view else self.metric

    @property
    def paper(self) -> str:
        """Description of the paper's column; empty without one."""
        paper = self.design.paper_beside(self.metric)
        if paper is None:
            return ""
        return (
            f"the paper's {paper.metrics[self.metric.partition('/')[2]]} ({paper.source}; "
            f"{paper.scale})"
        )

    def heads_and_rows(self) -> Texts:
        """Return the texts of the table."""
        design = self.design
        paper = design.paper_beside(self.metric)
        heads = list(design.heads)
        if len(heads) == 1:
            heads = [heads[0].rpartition(".")[2]]
        heads += [
            "seeds",
            self.metric,
            "over images",
            f"difference to {design.against}",
            "difference, over images",
            "difference, over seeds",
        ]
        if paper is not None:
            heads.append(f"the paper's, {paper.source.rpartition(', ')[2]}")
        rows = []
        for cell, score in self.scores.items():
            texts = ["base" if cell == design.against else NONE, NONE, NONE]
            mean, *over = score.difference
            if mean is not None:
                texts = [f"{mean:+.3f}", *map(interval_text, over)]
            rows.append(
                [
                    *design.cells[cell],
                    str(len(score.values)),
                    score.text(),
                    interval_text(score.over_images, sign=""),
                    *texts,
                ]
            )
            if paper is not None:
                rows[-1].append(str(self.papers.get(cell, NONE)))
        return heads, rows


def build_table(
    design: Design, results: Runs, *, metric: str, allow_mixed: bool, view: str = ""
) -> Table:
    """Compare the cells of a grid by one metric, in one view.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False; or as
            ``score_rows``.
    """
    image_set, _, name = metric.partition("/")
    having = {run: one for run, one in results.items() if one.value(metric) is not None}
    measured = list(having.values())
    differences = list(
        dict.fromkeys(
            [*split_by_measurement(measured, metric).differences(), *setup_differences(measured)]
        )
    )
    if differences and not allow_mixed:
        raise ConfigError(
            f"{metric} has no table, its runs are not comparable: {'; '.join(differences)}; move "
            "away the folders of the runs to repeat and call again, or use --allow-mixed; gestalt "
            "compare --details lists every difference of two runs"
        )
    notes = [f"Not comparable: {sentence}." for sentence in differences]
    runs: dict[str, dict[int, Result]] = {cell: {} for cell in design.cells}
    for (cell, seed), result in having.items():
        runs[cell][seed] = result
    scores = score_rows(runs, metric, against=design.against, allow_other_images=allow_mixed)
    paper = design.paper_beside(metric)
    papers = {}
    for cell in design.cells:
        number = None if paper is None else paper.number(cell, name)
        substituted = ", ".join(
            dict.fromkeys(
                result.substituted_init for result in runs[cell].values() if result.substituted_init
            )
        )
        if substituted:
            omitted = "" if number is None else ", so the paper's number is left out"
            notes.append(f"{cell}: {substituted}{omitted}.")
        elif number is not None:
            papers[cell] = number
    parts = dict.fromkeys(
        part_text(entry)
        for result in results.values()
        for entry in result.record["benchmarks"]
        if entry["set"] == image_set
    )
    notes += [f"{image_set}: {part}." for part in parts if part]
    notes += run_notes(results.values())
    # the first run of the base cell, else of any
    base = [*runs[design.against].values(), *results.values()]
    baselines = companions(base[0].record["metrics"], metric) if base else {}
    return Table(metric, view, design, scores, papers, baselines, tuple(notes))


def build_tables(
    grid: GridResults, *, metrics: Sequence[str] = (), allow_mixed: bool
) -> list[Table]:
    """Compare the cells in each view by each metric that it has, by default the headlines; raises
    as ``build_table``.
    """
    tables = [
        build_table(grid.design, results, metric=metric, allow_mixed=allow_mixed, view=view)
        for view, results in grid.views.items()
        for metric in metrics or headlines(results.values())
    ]
    return [table for table in tables if any(score.values for score in table.scores.values())]


def markdown(tables: Sequence[Table]) -> str:
    """Return all tables with their notes, and how their intervals are computed."""
    parts = []
    for table in tables:
        lines = markdown_lines(*table.heads_and_rows())
        parts += [table.title, "\n".join(lines), table.paper, *table.notes]
    return "\n\n".join(filter(None, [*parts, METHOD])) + "\n"


def latex(tables: Sequence[Table]) -> str:
    """Return a tabular for each table, for ``\\usepackage{booktabs}``."""
    texts = []
    for table in tables:
        tabular = latex_table(*table.heads_and_rows(), left=len(table.design.heads))
        notes = [f"% {note}\n" for note in (table.paper, *table.notes) if note]
        texts.append(f"% {table.title}. {METHOD}\n{tabular}{''.join(notes)}")
    return "\n".join(texts)


def csv_text(tables: Sequence[Table]) -> str:
    """Return all tables, a line for each cell, numbers unrounded."""
    rows = []
    for table in tables:
        design = table.design
        for cell, score in table.scores.items():
            difference = score.difference
            rows.append(
                {
                    "metric": table.metric,
                    "view": table.view,
                    "cell": cell,
                    "settings": " ".join(map("{}={}".format, design.heads, design.cells[cell])),
                    "seeds": " ".join(map(str, score.values)),
                    "scores": " ".join(map(str, score.values.values())),
                    "mean": score.mean,
                    "deviation": score.deviation,
                    **csv_bounds(score.over_images, "images_"),
                    "against": design.against,
                    "difference": difference.mean,
                    **csv_bounds(difference.over_images, "difference_images_"),
                    **csv_bounds(difference.over_seeds, "difference_seeds_"),
                    "paper": table.papers.get(cell),
                    "paper_is": table.paper,
                }
            )
    return csv_table(rows)


GRID_WRITERS = {"markdown": markdown, "latex": latex, "csv": csv_text}
