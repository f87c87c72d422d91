"""Tables of a grid: for each metric a row per cell, with its mean over seeds, its paired difference to the base, and the paper's number."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gestalt.config.schema import ConfigError
from gestalt.ledger.comparability import code_notes, measurement_differences, setup_differences, step_notes
from gestalt.ledger.design import Design
from gestalt.ledger.result import Result, companions
from gestalt.ledger.scores import Score, score_rows
from gestalt.ledger.text import part_text

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
        return {seed: result for (name, seed), result in self.results.items() if name == cell and result.value(metric) is not None}


@dataclass(frozen=True)
class Row:
    """A cell in a table.

    Attributes:
        cell: its name.
        settings: a value for each head of the table.
        score: score of its runs.
        paper: the paper's number; None if it has none, or if a run used another init than the cell names.
    """

    cell: str
    settings: tuple[str, ...]
    score: Score
    paper: float | None = None


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
        return "" if paper is None else f"the paper's {paper.metrics[self.metric.partition('/')[2]]} ({paper.source}; {paper.scale})"


def build_table(design: Design, view: View, *, metric: str, allow_mixed: bool) -> Table:
    """Compare the cells of a grid by one metric.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False; or as ``score_rows``.
    """
    differences = _differences(view, metric, allow_mixed=allow_mixed)
    runs = {cell: view.of(cell, metric) for cell in design.cells}
    scores = score_rows(runs, metric, against=design.against, allow_other_images=allow_mixed)
    paper, name = design.paper_beside(metric), metric.partition("/")[2]
    rows, init_notes = [], []
    for cell, settings in design.cells.items():
        number = None if paper is None else paper.number(cell, name)
        substituted = _substituted(list(runs[cell].values()))
        if substituted:
            init_notes.append(f"{cell}: {substituted}{'' if number is None else OMITTED}.")
        rows.append(Row(cell, settings, scores[cell], paper=None if substituted else number))
    return Table(
        metric,
        view.name,
        design,
        rows=tuple(rows),
        baselines=_baselines(design, view, metric=metric),
        notes=(*(f"Not comparable: {sentence}." for sentence in differences), *init_notes, *_notes(view, metric=metric)),
    )


def _differences(view: View, metric: str, *, allow_mixed: bool) -> list[str]:
    """Return sentences on the settings that differ between the runs and must match.

    Raises:
        ConfigError: there are some, and ``allow_mixed`` is False.
    """
    measured = [result for result in view.results.values() if result.value(metric) is not None]
    differences = list(dict.fromkeys([*measurement_differences(measured, metric), *setup_differences(measured)]))
    if differences and not allow_mixed:
        raise ConfigError(
            f"{metric} has no table, its runs are not comparable: {'; '.join(differences)}; move away the folders of the runs to repeat "
            "and call again, or use --allow-mixed; gestalt compare --details lists every difference of two runs"
        )
    return differences


def _baselines(design: Design, view: View, *, metric: str) -> dict[str, float]:
    """Return the baselines of a metric from the first run of the base cell, or from the first run if the base has none."""
    results = [*view.of(design.against, metric).values(), *view.results.values()]
    return companions(results[0].record["metrics"], metric) if results else {}


def _substituted(results: Sequence[Result]) -> str:
    """Return the inits that were requested and not used, each once; empty if there are none."""
    return ", ".join(dict.fromkeys(result.substituted_init for result in results if result.substituted_init))


def _notes(view: View, *, metric: str) -> list[str]:
    """Return notes on partly scored sets, on runs that ended before their last step, and on code that no commit describes."""
    image_set, results = metric.partition("/")[0], list(view.results.values())
    entries = [entry for result in results for entry in result.record["benchmarks"] if entry["set"] == image_set]
    parts = dict.fromkeys(part_text(entry) for entry in entries)
    return [
        *(f"{image_set}: {part}." for part in parts if part),
        *step_notes(results),
        *code_notes(results),
    ]
