"""Build the tables of a grid's page from the results of its cells.

Each metric has a table with a row for each cell: the mean over seeds, the paired difference to the
base cell, and the paper's number. Our numbers are in [0, 1]. The paper's numbers have a separate
column, and are shown as printed in the paper. torch is not imported.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gestalt.results.comparability import (
    run_notes,
    setup_differences,
    split_by_measurement,
    supervision_notes,
)
from gestalt.results.record import result_paths, write_record
from gestalt.results.result import (
    Result,
    companions,
    headlines,
    name_by_difference,
    read_result,
)
from gestalt.results.scores import Score, score_rows, unpaired
from gestalt.results.text import (
    NONE,
    OVER_IMAGES,
    Table,
    interval_text,
    part_text,
)
from gestalt.support.addresses import change_texts, published
from gestalt.support.files import read_json
from gestalt.support.typed import ConfigError, convert

PAGE = "page.json"
"""File in the folder of a grid's page that stores what the page shows."""

Runs = Mapping[tuple[str, int], Result]
"""(cell, seed) -> result."""


@dataclass(frozen=True)
class Paper:
    """The paper's numbers for the cells of a grid.

    Attributes:
        source: document and table.
        scale: data and models that the paper used.
        metrics: name of a metric -> its name and unit in the paper.
        cells: name of a cell -> name of a metric -> number.
    """

    source: str = ""
    scale: str = ""
    metrics: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Design:
    """The description of a grid that its tables show.

    Attributes:
        name: name of the grid.
        base: experiment that every cell starts from.
        scale: name of the scale.
        common: overrides of every cell.
        heads: the varied keys, or ``cell``.
        cells: name -> a value for each head.
        against: the base cell, which the others are compared to.
        metric: the metric to plot.
        sizes: additional test sizes in pixels.
        paper: the paper's numbers, if it has any.
    """

    name: str
    base: str
    scale: str
    common: list[str]
    heads: list[str]
    cells: dict[str, list[str]]
    against: str
    metric: str
    sizes: list[int] = field(default_factory=list)
    paper: Paper | None = None

    @property
    def title(self) -> str:
        """The name and the scale of the grid."""
        return f"{self.name} at scale {self.scale}"


class GridResults(NamedTuple):
    """The content of a grid's page.

    Attributes:
        design: the description of the grid.
        views: name of the view -> results of the finished runs under one evaluation.  The first
            view has the runs' own scores and an empty name; then there is a view for each test
            size.
        remarks: lines on chosen values and failed runs.
    """

    design: Design
    views: Mapping[str, Runs]
    remarks: Sequence[str]

    def write(self, folder: Path) -> None:
        """Write ``page.json``.  Paths of results are relative to the folder of the page."""
        views = {
            name: [[*run, os.path.relpath(result.path, folder)] for run, result in results.items()]
            for name, results in self.views.items()
        }
        content = {"design": asdict(self.design), "remarks": self.remarks, "views": views}
        write_record(folder / PAGE, change_texts(content, published))

    @classmethod
    def read(cls, folder: Path) -> "GridResults":
        """Read ``page.json`` and the results that it lists.

        Raises:
            ConfigError: the file, or a results file that it lists, is damaged.
        """
        try:
            content = read_json(folder / PAGE, "page")
            views = {
                name: {
                    (cell, seed): replace(read_result(folder / path), label=f"{cell} seed {seed}")
                    for cell, seed, path, *_ in runs  # an earlier version added seconds
                }
                for name, runs in content["views"].items()
            }
            design = convert(content["design"], Design, origin=PAGE)
            return cls(design, views, content["remarks"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"{folder / PAGE}: damaged, or a run that it names is gone ({error}); repeat "
                "gestalt ablate"
            ) from error


def read_results(
    targets: Sequence[str], *, evaluations: bool = False
) -> tuple[list[Result], list[GridResults]]:
    """Read the results that the targets name, each once, in order, with distinct labels.

    Args:
        targets: JSON files, folders of runs, names of experiments (for the latest finished run with
            default settings), or folders of grid pages (for the grid's runs).
        evaluations: True to add the evaluations of each run that does not belong to a grid.

    Returns:
        The results, and the grids among the targets.

    Raises:
        ConfigError: a target has no result, or its result is damaged.
    """
    found: dict[Path, Result] = {}
    grids = []
    for target in targets:
        if (Path(target) / PAGE).is_file():
            grids.append(GridResults.read(Path(target)))
            results = list(grids[-1].views[""].values())
            if not results:
                raise ConfigError(f"{target}: none of its runs is finished; repeat gestalt ablate")
        else:
            results = list(map(read_result, result_paths(target, evaluations)))
        for result in results:
            found.setdefault(result.path.resolve(), result)
    placed = [replace(result, path=path) for path, result in found.items()]
    results = name_by_difference(placed)
    labels = Counter(result.label for result in results)
    return [
        replace(result, label=f"{result.label} ({result.path})")
        if labels[result.label] > 1
        else result
        for result in results
    ], grids


METHOD = (
    "Mean ± sample standard deviation over seeds. In brackets are 95 % intervals: over images, "
    "paired for differences, or, where the column says so, over seeds by Student's t. "
    + OVER_IMAGES
)


class GridTable(NamedTuple):
    """The table of one metric in one view.

    Attributes:
        metric: key of the metric.
        view: name of the view.
        design: the description of the grid.
        scores: cell -> score, in the grid's order.
        papers: cell -> the paper's number.  Cells whose runs used other pretrained weights than the
            cell names are left out.
        baselines: baselines of the metric, from a run of the base cell.
        notes: sentences on differences that the numbers do not show.
    """

    metric: str
    view: str
    design: Design
    scores: dict[str, Score]
    papers: dict[str, float]
    baselines: dict[str, float]
    notes: list[str]

    @property
    def title(self) -> str:
        """The metric and the view."""
        return f"{self.metric}, {self.view}" if self.view else self.metric

    @property
    def paper(self) -> str:
        """Description of the paper's column; empty if there is no such column."""
        paper = self.design.paper
        if paper is None or not self.papers:
            return ""
        return (
            f"the paper's {paper.metrics[self.metric.partition('/')[2]]} ({paper.source}; "
            f"{paper.scale})"
        )

    def table(self) -> Table:
        """Return the table as text."""
        design = self.design
        heads = [
            *design.heads,
            "seeds",
            self.metric,
            f"difference to {design.against}",
            "difference, over seeds",
        ]
        if self.papers:
            heads.append("the paper's")
        rows = []
        values = []
        for cell, score in self.scores.items():
            rows.append(
                [
                    *design.cells[cell],
                    str(len(score.values)),
                    *score.texts(),
                    interval_text(score.difference_over_seeds),
                ]
            )
            if self.papers:
                rows[-1].append(str(self.papers.get(cell, NONE)))
            values.append(
                {
                    "metric": self.metric,
                    "view": self.view,
                    "cell": cell,
                    "settings": " ".join(map("{}={}".format, design.heads, design.cells[cell])),
                    "seeds": " ".join(map(str, score.values)),
                    "scores": " ".join(map(str, score.values.values())),
                    **score.fields(),
                    "against": design.against,
                    "paper": self.papers.get(cell),
                    "paper_is": self.paper,
                }
            )
        notes = [self.paper, *self.notes] if self.paper else self.notes
        numbers = range(len(design.heads), len(heads))
        return Table(self.title, heads, rows, numbers, notes, values)


def build_table(
    design: Design, results: Runs, *, metric: str, allow_mixed: bool, view: str = ""
) -> GridTable:
    """Compare the cells of a grid by one metric in one view.

    Raises:
        ConfigError: the runs are not comparable and ``allow_mixed`` is False; or the arrays of a
            run do not belong to its results file.
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
    notes += unpaired(scores, design.against)
    papers = {}
    # The paper's numbers are for the benchmark of the plotted metric.
    if design.paper is not None and image_set == design.metric.partition("/")[0]:
        papers = {
            cell: numbers[name] for cell, numbers in design.paper.cells.items() if name in numbers
        }
    for cell in design.cells:
        substituted = ", ".join(
            filter(None, dict.fromkeys(result.substituted_init for result in runs[cell].values()))
        )
        if substituted:
            number = papers.pop(cell, None)
            omitted = "" if number is None else ", so the paper's number is left out"
            notes.append(f"{cell}: {substituted}{omitted}.")
    parts = dict.fromkeys(
        part_text(entry)
        for result in results.values()
        for entry in result.record["benchmarks"]
        if entry["set"] == image_set
    )
    notes += [f"{image_set}: {part}." for part in parts if part]
    notes += [*run_notes(results.values()), *supervision_notes(measured)]
    # the first run of the base cell; if it has none, of any cell
    base = [*runs[design.against].values(), *results.values()]
    baselines = companions(base[0].record["metrics"], metric) if base else {}
    return GridTable(metric, view, design, scores, papers, baselines, notes)


def build_tables(
    grid: GridResults, *, metrics: Sequence[str] = (), allow_mixed: bool
) -> list[GridTable]:
    """Compare the cells by each metric of each view; by default the headline metrics.

    Raises:
        ConfigError: the runs are not comparable, and ``allow_mixed`` is False.
    """
    tables = [
        build_table(grid.design, results, metric=metric, allow_mixed=allow_mixed, view=view)
        for view, results in grid.views.items()
        for metric in metrics or headlines(results.values())
    ]
    return [table for table in tables if any(score.values for score in table.scores.values())]
