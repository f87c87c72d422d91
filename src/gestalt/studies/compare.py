"""A table is a metric: a row a cell, with its mean over seeds, its difference to the base and how sure that is, and the paper's number."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gestalt.ledger.result import companions
from gestalt.ledger.statistics import Interval, mean_and_deviation, percentile_interval, t_interval
from gestalt.ledger.text import part_text
from gestalt.studies.grid import Grid
from gestalt.studies.results import Scored, View, contribution_of, refuse_mixed


@dataclass(frozen=True)
class Difference:
    """A cell minus the base, over the seeds that both have.

    Attributes:
        mean: over seeds.
        seeds: how many.
        over_images: of the paired bootstrap over images; None where a run kept no counts of its images.
        over_seeds: of Student's t; None for a single seed.
    """

    mean: float
    seeds: int
    over_images: Interval | None
    over_seeds: Interval | None


@dataclass(frozen=True)
class Row:
    """A cell.

    Attributes:
        cell: its name.
        settings: a value for each varied key, or the name.
        scores: by seed; empty where no run was finished.
        over_images: 95 % interval of the mean over seeds, by bootstrap over images.
        difference: to the base; None for the base, or where either has no run.
        paper: the paper's number; never ours.
    """

    cell: str
    settings: tuple[str, ...]
    scores: dict[int, float]
    over_images: Interval | None = None
    difference: Difference | None = None
    paper: float | None = None

    @property
    def mean(self) -> float | None:
        """Over seeds."""
        return mean_and_deviation(list(self.scores.values()))[0] if self.scores else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds."""
        return mean_and_deviation(list(self.scores.values()))[1] if self.scores else None


@dataclass(frozen=True)
class Table:
    """One metric in one view.

    Attributes:
        metric: its key.
        view: how the runs were scored, empty for their own way.
        heads: the varied keys, or ``cell``.
        against: the base cell.
        rows: in the grid's order.
        baselines: what the metric stands beside, as the base cell's run has it.
        paper: what the paper's column is; empty without one.
        paper_head: the same, short enough to stand above it.
        notes: what a reader must know.
    """

    metric: str
    view: str
    heads: tuple[str, ...]
    against: str
    rows: tuple[Row, ...]
    baselines: dict[str, float]
    paper: str
    paper_head: str
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Metric and view."""
        return f"{self.metric}, {self.view}" if self.view else self.metric


def build_table(grid: Grid, view: View, *, metric: str, allow_mixed: bool) -> Table:
    """Compare the cells of a grid by one metric.

    Raises:
        ConfigError: the runs were not measured alike, and that is not allowed.
    """
    found = refuse_mixed(view, metric, allow_mixed=allow_mixed)
    runs = {cell.name: view.of(cell.name, metric) for cell in grid.cells}
    scores = {cell: {seed: float(one.record["metrics"][metric]) for seed, one in each.items()} for cell, each in runs.items()}
    same_images = not any(sentence.startswith("benchmark") for sentence in found)
    samples = _samples(grid, view, metric=metric) if same_images else {}
    rows = []
    for cell in grid.cells:
        mine = {seed: sample for (name, seed), sample in samples.items() if name == cell.name}
        sampled = mine and set(mine) == set(scores[cell.name])
        rows.append(
            Row(
                cell.name,
                settings=tuple(cell.words_of(grid.varied)) if grid.varied else (cell.name,),
                scores=scores[cell.name],
                over_images=percentile_interval(np.mean(list(mine.values()), axis=0)) if sampled else None,
                difference=_difference(grid, scores, samples, cell=cell.name),
                paper=None if _substituted(runs[cell.name].values()) else _paper(grid, cell.name, metric=metric),
            )
        )
    return Table(
        metric,
        view.name,
        heads=grid.varied or ("cell",),
        against=grid.against,
        rows=tuple(rows),
        baselines=_baselines(grid, view, metric=metric),
        paper=_paper_title(grid, metric=metric),
        paper_head=f"the paper's, {grid.paper.source.rpartition(', ')[2]}" if grid.paper is not None else "",
        notes=(
            *(f"Not comparable: {sentence}." for sentence in found),
            *_inits(grid, view, metric=metric),
            *_parts(view, metric=metric),
            *_notes(view),
        ),
    )


def _samples(grid: Grid, view: View, *, metric: str) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Each run's score on every resample of the images; the resamples are the same for all sets of one length."""
    found = {}
    for cell in grid.cells:
        for seed, one in view.of(cell.name, metric).items():
            contributed = contribution_of(one, metric)
            if contributed is not None:
                found[cell.name, seed] = contributed.samples()
    return found


def _difference(
    grid: Grid, scores: dict[str, dict[int, float]], samples: dict[tuple[str, int], NDArray[np.float64]], *, cell: str
) -> Difference | None:
    seeds = [seed for seed in scores[cell] if seed in scores[grid.against]]
    if cell == grid.against or not seeds:
        return None
    each = [scores[cell][seed] - scores[grid.against][seed] for seed in seeds]
    pairs = [(cell, seed) for seed in seeds] + [(grid.against, seed) for seed in seeds]
    over_images = None
    if all(pair in samples for pair in pairs):
        resampled_differences = [samples[cell, seed] - samples[grid.against, seed] for seed in seeds]
        over_images = percentile_interval(np.mean(resampled_differences, axis=0))
    return Difference(mean_and_deviation(each)[0], seeds=len(seeds), over_images=over_images, over_seeds=t_interval(each))


def _paper(grid: Grid, cell: str, *, metric: str) -> float | None:
    """The paper's number for a cell, beside the metrics of the benchmark that cells are drawn by."""
    image_set, _, what = metric.partition("/")
    if grid.paper is None or image_set != grid.metric.partition("/")[0]:
        return None
    return grid.paper.cells.get(cell, {}).get(what)


def _paper_title(grid: Grid, *, metric: str) -> str:
    what = metric.partition("/")[2]
    if grid.paper is None or all(_paper(grid, cell.name, metric=metric) is None for cell in grid.cells):
        return ""
    return f"the paper's {grid.paper.metrics[what]} ({grid.paper.source}; {grid.paper.scale})"


def _baselines(grid: Grid, view: View, *, metric: str) -> dict[str, float]:
    """The companions of a metric, ``<metric>_<name>``, in the first finished run, the base's if there is one; not companions of those."""
    runs = [*view.of(grid.against, metric).values(), *view.scored.values()]
    return companions(runs[0].record["metrics"], metric) if runs else {}


def _parts(view: View, *, metric: str) -> list[str]:
    """How many images, where it is not the published set that the runs were scored on."""
    name = metric.partition("/")[0]
    entries = [entry for one in view.scored.values() for entry in one.record["benchmarks"] if entry["set"] == name]
    return [f"{name}: {said}." for said in dict.fromkeys(part_text(entry) for entry in entries) if said]


def _substituted(runs: Iterable[Scored]) -> list[str]:
    """Inits that were asked for and not used, as the runs say, each once."""
    inits = [one.record.get("image_init", {}) for one in runs]
    return list(dict.fromkeys(f"asked {init['asked']}, used {init['used']}" for init in inits if init.get("asked") != init.get("used")))


def _inits(grid: Grid, view: View, *, metric: str) -> list[str]:
    """Cells that started from something else than their name says, so that the paper's number beside them would be no twin of theirs."""
    notes = []
    for cell in grid.cells:
        said = _substituted(view.of(cell.name, metric).values())
        left_out = "" if _paper(grid, cell.name, metric=metric) is None else ", so that the paper's number is left out"
        notes += [f"{cell.name}: image.init {', '.join(said)}{left_out}."] if said else []
    return notes


def _notes(view: View) -> list[str]:
    """Runs that ended before their last planned step, such as by ``trainer.max_time``; code that no commit describes."""
    short = [one for one in view.scored.values() if one.record.get("steps", 0) < one.record.get("steps_planned", 0)]
    notes = [f"{one.label} ran {one.record['steps']} of {one.record['steps_planned']} steps." for one in short]
    commits = {str(one.record["provenance"]["commit"]) for one in view.scored.values()}
    vague = sorted(commit for commit in commits if commit == "unknown" or commit.endswith("+changes"))
    return notes + [f"Commit {commit}: nothing here says whether the code was the same for all runs." for commit in vague]
