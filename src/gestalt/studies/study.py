"""Run a grid: train the cells that are not finished, choose values, evaluate, and write the page."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gestalt.config.schema import ConfigError
from gestalt.results.ablation import View
from gestalt.results.ablation_page import write_page
from gestalt.results.record import commit, write_record
from gestalt.results.result import read_result
from gestalt.studies.grid import Grid
from gestalt.studies.jobs import Evaluating, Job, State, Training, training
from gestalt.studies.pool import Launcher, Outcome, Pool

ATTEMPTS = "cells.json"


@dataclass
class Study:
    """A grid being run.

    Attributes:
        grid: its definition.
        seeds: reported runs of each cell, with seeds 0 to seeds - 1.
        launcher: starts runs.
        folder: folder of the page.
        say: called with each line of progress.
        allow_mixed: True to compare runs that are not comparable.
        chosen: cell -> its best values of ``choose``, as overrides.
        remarks: lines for the page.
    """

    grid: Grid
    seeds: int
    launcher: Launcher
    folder: Path
    say: Callable[[str], None]
    allow_mixed: bool = False
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def tuning(self) -> list[Training]:
        """Return the runs on the tuning split: each cell with each value to choose from, with seed 0."""
        grid = self.grid
        return [training(grid, cell, seed=0, chosen=chosen, tune=True) for cell in grid.cells for chosen in grid.choices()]

    def reported(self) -> list[Training]:
        """Return the runs of the page, by seed, so that an early end leaves complete seeds; cells without a chosen value are left out."""
        cells = [cell for cell in self.grid.cells if not self.grid.choose or cell.name in self.chosen]
        return [training(self.grid, cell, seed=seed, chosen=self.chosen.get(cell.name, ())) for seed in range(self.seeds) for cell in cells]

    def scoring(self) -> list[Evaluating]:
        """Return the evaluations of the finished runs at further test sizes."""
        finished = [(run, run.read_state()) for run in self.reported()] if self.grid.evaluate_at else []
        return [
            Evaluating(run.cell, run.seed, run=state.folder, size=size, limit=state.record["config"]["evaluation"]["limit"])
            for run, state in finished
            if state.kind == "finished" and state.folder is not None and state.record is not None
            for size in self.grid.evaluate_at
        ]

    def choose(self) -> None:
        """Choose each cell's best value on the tuning split, the first of equal ones; cells without a finished run are left out."""
        tries = self.tuning()
        for cell in self.grid.cells:
            values = {run.tried: _score(run.read_state(), self.grid.metric) for run in tries if run.cell == cell.name}
            scores = {tried: score for tried, score in values.items() if score is not None}
            if not scores:
                self.remarks.append(f"{cell.name}: none of the values to choose from has a finished run, so the cell is left out.")
                continue
            best = max(scores, key=lambda tried: scores[tried])
            self.chosen[cell.name] = best
            listed = ", ".join(f"{' '.join(tried)}: {score:.3f}" for tried, score in scores.items())
            self.remarks.append(f"{cell.name}: chosen {' '.join(best)} by {self.grid.metric} on the tuning split, seed 0 ({listed}).")

    def run(self) -> str:
        """Run all jobs, write the page, and return it.

        Raises:
            Stopped: after a signal.
            ConfigError: the finished runs are not comparable with each other, or with those to come.
        """
        self._refuse_other_commit()
        pool = Pool(self.launcher, say=self.say, ended=self._record)
        for stage in (self.tuning, self.reported, self.scoring):
            batch: Sequence[Job] = stage()
            if batch:
                pool.run(batch, expected=expected_seconds(batch))
            if stage == self.tuning and self.grid.choose:
                self.choose()
        return write_page(
            self.grid.design(), self.views(), folder=self.folder, allow_mixed=self.allow_mixed, remarks=self._remarks(), walls=self._walls()
        )

    @property
    def failed(self) -> bool:
        """True if a run of this call failed."""
        return any(entry["status"] == "failed" for entry in self._entries.values())

    def views(self) -> list[View]:
        """Return the results of the finished runs, then those of each further test size."""
        scored = self.scoring()
        return [
            _view("", self.reported()),
            *(_view(f"tested at {size} px", [job for job in scored if job.size == size]) for size in self.grid.evaluate_at),
        ]

    def _refuse_other_commit(self) -> None:
        """Refuse to start runs that could not be compared with finished runs of another commit."""
        states = [run.read_state() for run in [*self.tuning(), *(self.reported() if not self.grid.choose else [])]]
        commits = {str(state.record["provenance"]["commit"]) for state in states if state.record is not None}
        if not self.allow_mixed and any(state.kind != "finished" for state in states) and commits - {commit()}:
            raise ConfigError(
                f"grid {self.grid.name}: finished cells are of commit {', '.join(sorted(commits))}, this is {commit()}, and results of two "
                "commits share no column; check out that commit, move away the folders of the finished runs, or use --allow-mixed"
            )

    def _record(self, job: Job, outcome: Outcome) -> None:
        """Add an outcome to ``cells.json``."""
        earlier = _entries(self.folder).get(job.key, {})
        record = outcome.state.record or {}
        self._entries[job.key] = {
            "key": job.key,
            "cell": job.cell,
            "seed": job.seed,
            "overrides": list(job.words),
            "tuning": isinstance(job, Training) and bool(job.tried),
            "config_hash": record.get("config_hash") or (job.hash if isinstance(job, Training) else None),
            "status": "failed" if outcome.status == "failed" else "finished",
            "reason": outcome.reason,
            "folder": str(outcome.state.folder) if outcome.state.folder else None,
            "log": str(outcome.log) if outcome.log else earlier.get("log"),
            "wall": round(outcome.seconds, 1) if outcome.whole else earlier.get("wall"),
            "seconds": record.get("seconds") if isinstance(job, Training) else None,
            "metrics": {key: value for key, value in record.get("metrics", {}).items() if "/iou/" not in key},
        }
        grid = {"grid": self.grid.name, "base": self.grid.base_name, "scale": self.grid.scale_name, "against": self.grid.against}
        entries = {**_entries(self.folder), **self._entries}  # those of other seeds and overrides stay
        write_record(self.folder / ATTEMPTS, {**grid, "runs": list(entries.values())})

    def _remarks(self) -> list[str]:
        failed = [entry for entry in self._entries.values() if entry["status"] == "failed"]
        return self.remarks + [f"{entry['cell']}, seed {entry['seed']}: failed: {entry['reason']} (log {entry['log']})" for entry in failed]

    def _walls(self) -> dict[tuple[str, int], float]:
        entries = _entries(self.folder)
        walls = {(run.cell, run.seed): entries.get(run.key, {}).get("wall") for run in self.reported()}
        return {key: wall for key, wall in walls.items() if wall}


def _view(name: str, jobs: Sequence[Job]) -> View:
    """Read the results of the finished jobs."""
    paths = {(job.cell, job.seed): job.read_state().path for job in jobs}
    return View(name, {key: replace(read_result(path), label=f"{key[0]} seed {key[1]}") for key, path in paths.items() if path is not None})


def expected_seconds(jobs: Sequence[Job]) -> float | None:
    """Return the median seconds of the finished trainings; None without any."""
    spent = [sum(state.record["seconds"].values()) for job in jobs if isinstance(job, Training) and (state := job.read_state()).record]
    return statistics.median(spent) if spent else None


def _score(state: State, metric: str) -> float | None:
    value = state.record["metrics"].get(metric) if state.record is not None else None
    return None if value is None else float(value)


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the outcomes of earlier calls, by key."""
    path = folder / ATTEMPTS
    return {entry["key"]: entry for entry in json.loads(path.read_text())["runs"]} if path.is_file() else {}
