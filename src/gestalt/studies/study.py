"""A grid from its first run to its page: run what is not finished, choose, score, compare."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gestalt.config.schema import ConfigError
from gestalt.ledger.ablation import View
from gestalt.ledger.ablation_page import write_page
from gestalt.ledger.record import commit, write_record
from gestalt.ledger.result import read_result, run_seconds
from gestalt.studies.grid import Grid
from gestalt.studies.jobs import Evaluating, State, Training, Work, training
from gestalt.studies.pool import Launcher, Outcome, Pool

ATTEMPTS = "cells.json"


@dataclass
class Study:
    """A grid being run.

    Attributes:
        grid: what varies.
        seeds: reported runs of each cell, with seeds 0 to seeds - 1.
        launcher: what starts runs.
        folder: of the page.
        say: takes a line for people.
        allow_mixed: compare what is not comparable.
        chosen: the values that each cell goes on with; filled by ``choose``.
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
        """The runs that only choose: each cell once a value, with seed 0."""
        grid = self.grid
        return [training(grid, cell, seed=0, chosen=chosen, tune=True) for cell in grid.cells for chosen in grid.choices()]

    def reported(self) -> list[Training]:
        """The runs that count, seed by seed, so that an early end leaves whole columns; of the cells whose values are chosen."""
        cells = [cell for cell in self.grid.cells if not self.grid.choose or cell.name in self.chosen]
        return [training(self.grid, cell, seed=seed, chosen=self.chosen.get(cell.name, ())) for seed in range(self.seeds) for cell in cells]

    def scoring(self) -> list[Evaluating]:
        """Further test sizes of the finished runs."""
        finished = [(run, run.look()) for run in self.reported()] if self.grid.evaluate_at else []
        return [
            Evaluating(run.cell, run.seed, run=state.folder, size=size, limit=state.record["config"]["evaluation"]["limit"])
            for run, state in finished
            if state.kind == "finished" and state.folder is not None and state.record is not None
            for size in self.grid.evaluate_at
        ]

    def choose(self) -> None:
        """Take each cell's best value on the tuning split; equal ones go to the first.  A cell without any finished try is left out."""
        tries = self.tuning()
        for cell in self.grid.cells:
            scores = {
                run.tried: score for run in tries if run.cell == cell.name and (score := _score(run.look(), self.grid.metric)) is not None
            }
            if not scores:
                self.remarks.append(f"{cell.name}: none of the values to choose from has a finished run, so the cell has none.")
                continue
            best = max(scores, key=lambda tried: scores[tried])
            self.chosen[cell.name] = best
            listed = ", ".join(f"{' '.join(tried)}: {score:.3f}" for tried, score in scores.items())
            self.remarks.append(f"{cell.name}: chosen {' '.join(best)} by {self.grid.metric} on the tuning split, seed 0 ({listed}).")

    def run(self) -> str:
        """Bring everything to its end, write the page, and return it.

        Raises:
            Stopped: a signal came.
            ConfigError: the finished runs are not comparable with those to come, or with each other.
        """
        self._refuse_other_commit()
        pool = Pool(self.launcher, say=self.say, ended=self._record)
        for what, works in (("tuning", self.tuning), ("reported", self.reported), ("scoring", self.scoring)):
            batch: Sequence[Work] = works()
            if batch:
                pool.run(batch, expected=expected_seconds(batch))
            if what == "tuning" and self.grid.choose:
                self.choose()
        return write_page(
            self.grid.design(), self.views(), folder=self.folder, allow_mixed=self.allow_mixed, remarks=self._remarks(), walls=self._walls()
        )

    @property
    def failed(self) -> bool:
        """Whether a run of this call did."""
        return any(entry["status"] == "failed" for entry in self._entries.values())

    def views(self) -> list[View]:
        """Return the results of the finished runs, then those of each further test size."""
        scored = self.scoring()
        return [
            _view("", self.reported()),
            *(_view(f"tested at {size} px", [work for work in scored if work.size == size]) for size in self.grid.evaluate_at),
        ]

    def _refuse_other_commit(self) -> None:
        """Before hours are spent: finished runs of another commit could not share a column with those to come."""
        states = [run.look() for run in [*self.tuning(), *(self.reported() if not self.grid.choose else [])]]
        commits = {str(state.record["provenance"]["commit"]) for state in states if state.record is not None}
        if not self.allow_mixed and any(state.kind != "finished" for state in states) and commits - {commit()}:
            raise ConfigError(
                f"grid {self.grid.name}: finished cells are of commit {', '.join(sorted(commits))}, this is {commit()}, and results of two "
                "commits share no column; go on at that commit, move the finished runs' folders away, or say --allow-mixed"
            )

    def _record(self, work: Work, outcome: Outcome) -> None:
        """Keep an outcome, and write all of them."""
        earlier = _entries(self.folder).get(_key(work), {})
        record = outcome.state.record or {}
        self._entries[_key(work)] = {
            "key": _key(work),
            "cell": work.cell,
            "seed": work.seed,
            "overrides": list(work.words),
            "tuning": isinstance(work, Training) and bool(work.tried),
            "config_hash": record.get("config_hash") or (work.hash if isinstance(work, Training) else None),
            "status": "failed" if outcome.status == "failed" else "finished",
            "reason": outcome.reason,
            "folder": str(outcome.state.folder) if outcome.state.folder else None,
            "log": str(outcome.log) if outcome.log else earlier.get("log"),
            "wall": round(outcome.seconds, 1) if outcome.whole else earlier.get("wall"),
            "seconds": run_seconds(record) if isinstance(work, Training) and record else None,
            "metrics": {key: value for key, value in record.get("metrics", {}).items() if "/iou/" not in key},
        }
        about = {"grid": self.grid.name, "base": self.grid.base, "scale": self.grid.scale, "against": self.grid.against}
        everything = {**_entries(self.folder), **self._entries}  # other seeds and overrides stay
        write_record(self.folder / ATTEMPTS, {**about, "runs": list(everything.values())})

    def _remarks(self) -> list[str]:
        failed = [entry for entry in self._entries.values() if entry["status"] == "failed"]
        return self.remarks + [f"{one['cell']}, seed {one['seed']}: failed: {one['reason']} (log {one['log']})" for one in failed]

    def _walls(self) -> dict[tuple[str, int], float]:
        entries = _entries(self.folder)
        found = {(run.cell, run.seed): entries.get(_key(run), {}).get("wall") for run in self.reported()}
        return {key: wall for key, wall in found.items() if wall}


def _view(name: str, works: Sequence[Work]) -> View:
    """Read the results of the finished ones."""
    paths = {(work.cell, work.seed): work.look().path for work in works}
    return View(name, {key: replace(read_result(path), label=f"{key[0]} seed {key[1]}") for key, path in paths.items() if path is not None})


def expected_seconds(works: Sequence[Work]) -> float | None:
    """The median of the finished ones; None where none is, or for evaluations, which take little."""
    spent = [sum(run_seconds(state.record).values()) for work in works if isinstance(work, Training) and (state := work.look()).record]
    return statistics.median(spent) if spent else None


def _score(state: State, metric: str) -> float | None:
    value = state.record["metrics"].get(metric) if state.record is not None else None
    return None if value is None else float(value)


def _key(work: Work) -> str:
    return f"{work.stem} {work.hash if isinstance(work, Training) else work.run}"


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Outcomes of earlier calls, by key."""
    path = folder / ATTEMPTS
    return {entry["key"]: entry for entry in json.loads(path.read_text())["runs"]} if path.is_file() else {}
