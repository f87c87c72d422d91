"""Tables of a grid: for each metric a row per cell, with its mean over seeds, its paired difference
to the base, and the paper's number.

Our numbers are in [0, 1]; the paper's have a column of their own, as it prints them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gestalt.config.schema import ConfigError
from gestalt.results.comparability import run_notes, setup_differences, split_by_measurement
from gestalt.results.design import Design
from gestalt.results.intervals import LEVEL
from gestalt.results.result import Result, companions
from gestalt.results.scores import Score, score_rows
from gestalt.results.text import (
    NONE,
    OVER_IMAGES,
    csv_table,
    ends,
    interval_text,
    latex_table,
    part_text,
    score_text,
)

METHOD = (
    f"Mean ± sample standard deviation over seeds. Intervals are {LEVEL:.0%}, paired for "
    "differences; those over seeds are Student's t. "
    f"{OVER_IMAGES}"
)

OMITTED = ", so the paper's number is left out"


@dataclass(frozen=True)
class View:
    """Results of the finished runs of a grid under the same evaluation.

    Attributes:
        name: the change in the evaluation, such as the test size; empty for the runs' own scores.
        results: by cell and seed.
    """

    name: str
    results: dict[tuple[str, int], Result] = field(default_factory=dict)

    def of(self, cell: str, metric: str) -> dict[int, Result]:
        """Return a cell's results that have the metric, by seed."""
        return {
            seed: result
            for (name, seed), result in self.results.items()
            if name == cell and result.value(metric) is not None
        }


@dataclass(frozen=True)
class Row:
    """A cell in a table.

    Attributes:
        cell: its name.
        settings: a value for each head of the table.
        score: score of its runs.
        paper: the paper's number; None if it has none, or if a run used another init than the cell
            names.
    """

    cell: str
    settings: tuple[str, ...]
    score: Score
    paper: float | None = None

    def texts(self, *, against: str) -> list[str]:
        """Return the settings, the number of seeds, the score and its difference to the base
        cell.
        """
        score, difference = self.score, self.score.difference
        texts = [
            *self.settings,
            str(len(score.values)),
            score_text(score.mean, score.deviation),
            interval_text(score.over_images, sign=""),
        ]
        if difference is None:
            return [*texts, "base" if self.cell == against else NONE, NONE, NONE]
        return [
            *texts,
            f"{difference.mean:+.3f}",
            interval_text(difference.over_images),
            interval_text(difference.over_seeds),
        ]


@dataclass(frozen=True)
class Table:
    """One metric in one view.

    Attributes:
        metric: its key.
        view: its name.
        design: the grid.
        rows: in the grid's order.
        baselines: baselines of the metric, from a run of the base cell.
        notes: differences that the numbers do not show.
    """

    metric: str
    view: str
    design: Design
    rows: tuple[Row, ...]
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
        return (
            ""
            if paper is None
            else (
                f"the paper's {paper.metrics[self.metric.partition('/')[2]]} ({paper.source}; "
                f"{paper.scale})"
            )
        )

    def heads_and_rows(self) -> tuple[list[str], list[list[str]]]:
        """Return the texts of the table."""
        design, paper = self.design, self.design.paper_beside(self.metric)
        heads = [
            head.rpartition(".")[2] if len(design.heads) == 1 else head for head in design.heads
        ]
        heads += [
            "seeds",
            self.metric,
            "over images",
            f"difference to {design.against}",
            "difference, over images",
            "difference, over seeds",
        ]
        rows = [row.texts(against=design.against) for row in self.rows]
        if paper is not None:
            heads.append(f"the paper's, {paper.source.rpartition(', ')[2]}")
            for texts, row in zip(rows, self.rows, strict=True):
                texts.append(NONE if row.paper is None else str(row.paper))
        return heads, rows


def build_table(design: Design, view: View, *, metric: str, allow_mixed: bool) -> Table:
    """Compare the cells of a grid by one metric.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False; or as
            ``score_rows``.
    """
    image_set, _, name = metric.partition("/")
    measured = [result for result in view.results.values() if result.value(metric) is not None]
    differences = list(
        dict.fromkeys(
            [*split_by_measurement(measured, metric).differences(), *setup_differences(measured)]
        )
    )
    if differences and not allow_mixed:
        raise ConfigError(
            f"{metric} has no table, its runs are not comparable: {'; '.join(differences)}; move "
            "away the folders of the runs to repeat "
            "and call again, or use --allow-mixed; gestalt compare --details lists every "
            "difference of two runs"
        )
    notes = [f"Not comparable: {sentence}." for sentence in differences]
    runs = {cell: view.of(cell, metric) for cell in design.cells}
    scores = score_rows(runs, metric, against=design.against, allow_other_images=allow_mixed)
    paper = design.paper_beside(metric)
    rows = []
    for cell, settings in design.cells.items():
        number = None if paper is None else paper.number(cell, name)
        substituted = ", ".join(
            dict.fromkeys(
                result.substituted_init for result in runs[cell].values() if result.substituted_init
            )
        )
        if substituted:
            notes.append(f"{cell}: {substituted}{'' if number is None else OMITTED}.")
        rows.append(Row(cell, settings, scores[cell], paper=None if substituted else number))
    entries = [
        entry
        for result in view.results.values()
        for entry in result.record["benchmarks"]
        if entry["set"] == image_set
    ]
    notes += [f"{image_set}: {part}." for part in dict.fromkeys(map(part_text, entries)) if part]
    notes += run_notes(list(view.results.values()))
    # the first run of the base cell, else of any
    base = [*runs[design.against].values(), *view.results.values()]
    baselines = companions(base[0].record["metrics"], metric) if base else {}
    return Table(
        metric, view.name, design, rows=tuple(rows), baselines=baselines, notes=tuple(notes)
    )


def latex(table: Table) -> str:
    """Return one tabular, for ``\\usepackage{booktabs}``."""
    tabular = latex_table(*table.heads_and_rows(), left=len(table.design.heads))
    return f"% {table.title}. {METHOD}\n{tabular}" + "".join(
        f"% {note}\n" for note in (table.paper, *table.notes) if note
    )


def csv_text(tables: Sequence[Table]) -> str:
    """Return all tables, a line for each cell, numbers unrounded."""
    rows = []
    for table in tables:
        for row in table.rows:
            score, difference = row.score, row.score.difference
            rows.append(
                {
                    "metric": table.metric,
                    "view": table.view,
                    "cell": row.cell,
                    "settings": " ".join(
                        f"{head}={value}"
                        for head, value in zip(table.design.heads, row.settings, strict=True)
                    ),
                    "seeds": " ".join(map(str, score.values)),
                    "scores": " ".join(map(str, score.values.values())),
                    "mean": score.mean,
                    "deviation": score.deviation,
                    **ends(score.over_images, "images_"),
                    "against": table.design.against,
                    "difference": difference and difference.mean,
                    **ends(difference.over_images if difference else None, "difference_images_"),
                    **ends(difference.over_seeds if difference else None, "difference_seeds_"),
                    "paper": row.paper,
                    "paper_is": table.paper,
                }
            )
    return csv_table(rows)
