"""Run a grid: train its unfinished cells, choose values, evaluate, and write the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gestalt.ablation.grid import Grid
from gestalt.ablation.jobs import Evaluating, Job, Training
from gestalt.ablation.launchers import ClusterLauncher, LocalLauncher
from gestalt.ablation.queue import Queue
from gestalt.results.grid import GridResults, Runs
from gestalt.results.grid_page import write_page
from gestalt.results.record import commit
from gestalt.support.typed import ConfigError


@dataclass
class Study:
    """The execution of a grid.

    Attributes:
        grid: definition of the grid.
        seeds: number of reported runs of each cell, with seeds 0 to seeds - 1.
        launcher: launcher that starts the runs.
        folder: folder of the page.
        allow_mixed: True to compare runs that are not comparable.
        chosen: cell -> the best values of ``choose``, as overrides.
        remarks: lines for the page.
        queue: queue that runs the jobs.
    """

    grid: Grid
    seeds: int
    launcher: LocalLauncher | ClusterLauncher
    folder: Path
    allow_mixed: bool = False
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.launcher, self.folder)

    def tuning(self) -> list[Training]:
        """Return the runs on the tuning split: each cell with each value to choose from, for seed
        0.
        """
        return [
            Training(self.grid, cell, 0, chosen, tuning=True)
            for cell in self.grid.cells
            for chosen in self.grid.choices()
        ]

    def reported(self) -> list[Training]:
        """Return the runs of the page.

        Runs are ordered by seed, so that complete seeds remain after an early end. Cells without a
        chosen value are left out.
        """
        chosen = self.chosen if self.grid.choose else dict.fromkeys(self.grid.cells, ())
        return [
            Training(self.grid, cell, seed, chosen[cell])
            for seed in range(self.seeds)
            for cell in self.grid.cells
            if cell in chosen
        ]

    def scoring(self) -> list[Evaluating]:
        """Return the evaluations of the finished runs at additional test sizes."""
        jobs = []
        for run in self.reported() if self.grid.evaluate_at else []:
            state = run.read_state()
            if state.folder is not None and state.result is not None:
                limit = state.result.record["config"]["evaluation"]["limit"]
                jobs += [
                    Evaluating(run.cell, run.seed, state.folder, size, limit)
                    for size in self.grid.evaluate_at
                ]
        return jobs

    def choose(self) -> None:
        """Choose the best value of each cell on the tuning split.

        The first of equally good values is chosen. Cells without a finished run are left out.
        """
        for cell in self.grid.cells:
            scores = {}
            for chosen in self.grid.choices():
                result = Training(self.grid, cell, 0, chosen, tuning=True).read_state().result
                if result is not None and (score := result.value(self.grid.metric)) is not None:
                    scores[chosen] = score
            if not scores:
                self.remarks.append(
                    f"{cell}: none of the values to choose from has a finished run, so the "
                    "cell is left out."
                )
                continue
            best = max(scores, key=lambda tried: scores[tried])
            self.chosen[cell] = best
            listed = ", ".join(f"{' '.join(tried)}: {score:.3f}" for tried, score in scores.items())
            self.remarks.append(
                f"{cell}: chosen {' '.join(best)} by {self.grid.metric} on the tuning split, "
                f"seed 0 ({listed})."
            )

    def run(self) -> str:
        """Run all jobs, write the page, and return it.

        Raises:
            Interrupted: after a signal.
            ConfigError: the finished runs are not comparable with each other or with the runs to
                start.
        """
        self._refuse_other_commit()
        self.queue.run(self.tuning())
        if self.grid.choose:
            self.choose()
        self.queue.run(self.reported())
        scored = self.scoring()
        self.queue.run(scored)
        views = {"": _results(self.reported())}
        for size in self.grid.evaluate_at:
            views[f"tested at {size} px"] = _results([job for job in scored if job.size == size])
        results = GridResults(self.grid.design(), views, [*self.remarks, *self.queue.failures])
        return write_page(results, self.folder, self.allow_mixed)

    def _refuse_other_commit(self) -> None:
        """Refuse to start runs that could not be compared with finished runs of another commit."""
        states = [run.read_state() for run in [*self.tuning(), *self.reported()]]
        commits = {state.result.commit for state in states if state.result}
        if (
            not self.allow_mixed
            and any(state.kind != "finished" for state in states)
            and commits - {commit()}
        ):
            raise ConfigError(
                f"grid {self.grid.name}: finished cells are of commit "
                f"{', '.join(sorted(commits))}, this is {commit()}; a grid compares one "
                "commit: check that one out, move away the folders of the finished runs, or use "
                "--allow-mixed"
            )


def _results(jobs: Sequence[Job]) -> Runs:
    """Read the results of the finished jobs."""
    results = {}
    for job in jobs:
        result = job.read_state().result
        if result is not None:
            results[job.cell, job.seed] = replace(result, label=f"{job.cell} seed {job.seed}")
    return results
