"""Run a grid: train the cells that are not finished, a few at a time, choose values, evaluate, and
write the page; failures are recorded, and no process is left behind.
"""

import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gestalt.ablation.grid import Grid
from gestalt.ablation.jobs import Evaluating, Job, Training, read_state_file
from gestalt.ablation.launchers import (
    TICK,
    ClusterLauncher,
    LocalLauncher,
    Process,
    reason,
)
from gestalt.results.grid import GridResults, Runs
from gestalt.results.grid_page import write_page
from gestalt.results.record import commit, write_record
from gestalt.results.text import span
from gestalt.support.files import Fields
from gestalt.support.process import STOPPING, Interrupted, handle, tell
from gestalt.support.typed import ConfigError

ATTEMPTS = "cells.json"


@dataclass
class Study:
    """A grid being run.

    Attributes:
        grid: its definition.
        seeds: reported runs of each cell, with seeds 0 to seeds - 1.
        launcher: starts runs.
        folder: folder of the page.
        allow_mixed: True to compare runs that are not comparable.
        chosen: cell -> its best values of ``choose``, as overrides.
        remarks: lines for the page.
        failures: a line for each run of this call that failed.
    """

    grid: Grid
    seeds: int
    launcher: LocalLauncher | ClusterLauncher
    folder: Path
    allow_mixed: bool = False
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _running: dict[int, tuple[Job, Process, float]] = field(default_factory=dict)
    _busy: list[Job] = field(default_factory=list)

    def tuning(self) -> list[Training]:
        """Return the runs on the tuning split: each cell with each value to choose from, with seed
        0.
        """
        return [
            Training(self.grid, cell, 0, chosen, tuning=True)
            for cell in self.grid.cells
            for chosen in self.grid.choices()
        ]

    def reported(self) -> list[Training]:
        """Return the runs of the page, by seed, so that an early end leaves complete seeds; cells
        without a chosen value are left out.
        """
        chosen = self.chosen if self.grid.choose else dict.fromkeys(self.grid.cells, ())
        return [
            Training(self.grid, cell, seed, chosen[cell])
            for seed in range(self.seeds)
            for cell in self.grid.cells
            if cell in chosen
        ]

    def scoring(self) -> list[Evaluating]:
        """Return the evaluations of the finished runs at further test sizes."""
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
        """Choose each cell's best value on the tuning split, the first of equal ones; cells without
        a finished run are left out.
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
            ConfigError: the finished runs are not comparable with each other, or with those to
                come.
        """
        _entries(self.folder)  # a damaged file is refused before the first run
        self._refuse_other_commit()
        self._run(self.tuning())
        if self.grid.choose:
            self.choose()
        self._run(self.reported())
        scored = self.scoring()
        self._run(scored)
        views = {"": _results(self.reported())}
        for size in self.grid.evaluate_at:
            views[f"tested at {size} px"] = _results([job for job in scored if job.size == size])
        results = GridResults(self.grid.design(), views, [*self.remarks, *self.failures])
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

    def _run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs to their end, in order; finished ones are skipped, and those that another
        process runs are waited for.

        Raises:
            Interrupted: after Ctrl-C, SIGTERM or SIGUSR1.
        """
        waiting = deque(jobs)
        self._left = len(jobs)
        received: list[int] = []
        with handle(*STOPPING, by=lambda number, frame: received.append(number)):
            while waiting or self._running:
                if received:
                    self._stop(received)
                for slot, (job, process, start) in list(self._running.items()):
                    if process.poll() is not None:
                        del self._running[slot]
                        self._end(job, process, time.monotonic() - start)
                self._fill(waiting)
                time.sleep(10 * TICK if self._busy else TICK)

    def _fill(self, waiting: deque[Job]) -> None:
        """Start jobs while slots are free; look at each waiting job once."""
        for _ in range(len(waiting)):
            if len(self._running) == self.launcher.limit:
                return
            slot = next(slot for slot in itertools.count() if slot not in self._running)
            job = waiting.popleft()
            state = job.read_state()
            if state.kind == "finished":
                self._end(job)
            elif state.kind == "busy":
                if job not in self._busy:
                    tell(f"{job.label}: another process trains it in {state.folder}; waiting")
                    self._busy.append(job)
                waiting.append(job)
            else:
                process = self.launcher.start(job, state, slot)
                self._running[slot] = (job, process, time.monotonic())
                begins = f"resumes in {state.folder}" if state.kind == "stopped" else "starts"
                tell(f"{job.label}: {begins}; log {process.log}")

    def _end(self, job: Job, process: Process | None = None, seconds: float = 0.0) -> None:
        """Write and say how a job ended.

        Args:
            job: the job.
            process: what ran it; None if it was finished before.
            seconds: time of this call.
        """
        state = job.read_state()
        folder = state.folder
        why = ""
        line = f"finished before, {folder}"
        if process is not None:
            line = f"{folder}, {span(seconds)}"
            if status := process.poll():
                why = reason(process.output(), status)
            elif state.kind != "finished":
                why = "it ended without an error and without a result"
            if why:
                line = f"failed: {why} ({span(seconds)}, log {process.log})"
                self.failures.append(f"{job.label}: {line}")
        self._left -= 1
        entries = _entries(self.folder)
        entries[job.key] = {
            "key": job.key,
            "cell": job.cell,
            "seed": job.seed,
            "overrides": job.words,
            "tuning": job.tuning,
            "config_hash": job.hash,
            "status": "failed" if why else "finished",
            "reason": why,
            "folder": None if why else str(folder),
            "log": str(process.log) if process else entries.get(job.key, {}).get("log"),
        }
        write_record(self.folder / ATTEMPTS, {"runs": list(entries.values())})
        tell(f"{job.label}: {line}; {self._left} to come")

    def _stop(self, received: list[int]) -> None:
        """Stop all processes, unless they are left to the cluster, and raise; a second signal kills
        them.
        """
        processes = [process for _, process, _ in self._running.values()]
        left = "the submitted jobs go on"
        if not self.launcher.detached:
            left = "all runs have stopped and can be resumed from their last checkpoints"
            tell(
                f"stopping {len(processes)} runs after their step; press Ctrl-C again to kill them"
            )
            for process in processes:
                process.interrupt()
            while any(process.poll() is None for process in processes):
                if len(received) > 1:
                    for process in processes:
                        process.kill()
                time.sleep(TICK)
        stop = Interrupted(received[0])
        stop.args = (f"{stop}; {left}",)
        raise stop


def _results(jobs: Sequence[Job]) -> Runs:
    """Read the results of the finished jobs."""
    results = {}
    for job in jobs:
        result = job.read_state().result
        if result is not None:
            results[job.cell, job.seed] = replace(result, label=f"{job.cell} seed {job.seed}")
    return results


def _entries(folder: Path) -> dict[str, Fields]:
    """Return the outcomes of this call and of earlier ones, by key."""
    recorded = read_state_file(folder / ATTEMPTS, "cells")
    return {entry["key"]: entry for entry in recorded.get("runs", [])}
