"""Run a list of jobs: start unfinished jobs, a few at a time, record failures, and leave no process
behind.
"""

import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gestalt.ablation.jobs import Job, read_state_file
from gestalt.ablation.launchers import (
    TICK,
    ClusterLauncher,
    LocalLauncher,
    Process,
    reason,
)
from gestalt.results.record import write_record
from gestalt.results.text import span
from gestalt.support.files import Fields
from gestalt.support.process import STOPPING, Interrupted, handle, tell

ATTEMPTS = "cells.json"


@dataclass
class Queue:
    """Runs jobs, a few at a time.

    Attributes:
        launcher: launcher that starts the jobs.
        folder: folder of ``cells.json``, which stores the outcome of each job.
        failures: a line for each job of this call that failed.
    """

    launcher: LocalLauncher | ClusterLauncher
    folder: Path
    failures: list[str] = field(default_factory=list)
    _running: dict[int, tuple[Job, Process, float]] = field(default_factory=dict)
    _busy: list[Job] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all jobs to their end, in order.

        Finished jobs are skipped. Jobs that another process runs are waited for.

        Raises:
            ConfigError: ``cells.json`` is damaged.
            Interrupted: after Ctrl-C, SIGTERM or SIGUSR1.
        """
        read_entries(self.folder)  # refuses a damaged file before the first job
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
        """Start jobs while slots are free.  Each waiting job is checked once."""
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
        """Record and print how a job ended.

        Args:
            job: the job.
            process: process that ran the job; None if the job was already finished.
            seconds: time that the job took in this call.
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
        entries = read_entries(self.folder)
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
        """Stop all processes, except jobs that are left to the cluster, and raise.  A second signal
        kills the processes.
        """
        processes = [process for _, process, _ in self._running.values()]
        left = "the submitted jobs go on"
        if not self.launcher.detached:
            left = "all jobs have stopped, and the same command continues them"
            tell(
                f"stopping {len(processes)} jobs, training runs after their step; press Ctrl-C "
                "again to kill them"
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


def read_entries(folder: Path) -> dict[str, Fields]:
    """Return key of a job -> outcome, from this call and earlier calls."""
    recorded = read_state_file(folder / ATTEMPTS, "cells")
    return {entry["key"]: entry for entry in recorded.get("runs", [])}
