"""Run many jobs, each as a process: a few at a time, failures recorded, all stopped cleanly by Ctrl-C."""

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from gestalt.results.text import span
from gestalt.studies.jobs import Job, State
from gestalt.support.signals import STOPPING, handled

TICK = 0.1  # seconds between polls of the processes
WAIT = 2.0  # seconds between checks of a run that another process holds


class Process(Protocol):
    """A running job.

    Attributes:
        log: file of its output.
    """

    @property
    def log(self) -> Path: ...  # noqa: D102

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""

    def failure(self, status: int) -> str:
        """Return one line on why it failed."""

    def interrupt(self) -> None:
        """Ask it to save and stop."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    """Starts jobs.

    Attributes:
        limit: jobs at a time.
        detached: True if they go on when this process stops.
    """

    @property
    def limit(self) -> int: ...  # noqa: D102
    @property
    def detached(self) -> bool: ...  # noqa: D102

    def start(self, job: Job, *, state: State, slot: int) -> Process:
        """Start a job; ``slot`` in [0, limit) differs between the jobs that run at the same time."""


class Outcome(NamedTuple):
    """The outcome of a job.

    Attributes:
        status: skipped if it was finished before.
        seconds: wall time in this call, 0 if skipped.
        reason: line on why it failed; empty if it did not.
        state: state of a finished job.
        log: file of its output.
        whole: True if ``seconds`` is the time of the whole run, not of a resumed part.
    """

    status: Literal["finished", "skipped", "failed"]
    seconds: float = 0.0
    reason: str = ""
    state: State = State("new")
    log: Path | None = None
    whole: bool = False


class Stopped(RuntimeError):
    """Raised after a signal, once all processes have ended, or are left to the cluster."""

    def __init__(self, signal_number: int, *, detached: bool) -> None:
        state = "the submitted jobs go on" if detached else "all runs have stopped and can be resumed from their last checkpoints"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; {state}")
        self.signal_number = signal_number


@dataclass
class Pool:
    """Runs jobs and reports their outcomes.

    Attributes:
        launcher: starts a job.
        say: called with each line of progress.
        ended: called with the outcome of each job.
    """

    launcher: Launcher
    say: Callable[[str], None]
    ended: Callable[[Job, Outcome], None]
    _running: dict[int, tuple[Job, State, Process, float]] = field(default_factory=dict)
    _spent: list[float] = field(default_factory=list)
    _known: float | None = None
    _done: int = 0
    _total: int = 0

    def run(self, jobs: Sequence[Job], *, expected: float | None = None) -> None:
        """Run all jobs to their end.

        Args:
            jobs: in order; finished ones are skipped, and those that another process runs are waited for.
            expected: seconds of a job, if known.

        Raises:
            Stopped: after Ctrl-C, SIGTERM or SIGUSR1.
        """
        waiting = deque((job, 0.0) for job in jobs)
        self._done, self._total, self._known, self._spent = 0, len(jobs), expected, []
        received: list[int] = []
        with handled(*STOPPING, by=lambda number, frame: received.append(number)):
            while waiting or self._running:
                if received:
                    self._stop(received)
                self._collect()
                self._fill(waiting)
                time.sleep(TICK)

    def _fill(self, waiting: deque[tuple[Job, float]]) -> None:
        """Start jobs while slots are free; check each waiting job at most once."""
        for _ in range(len(waiting)):
            slot = next((slot for slot in range(self.launcher.limit) if slot not in self._running), None)
            if slot is None:
                return
            job, not_before = waiting.popleft()
            state = job.read_state() if not_before <= time.monotonic() else State("busy")
            if state.kind == "finished":
                self._end(job, Outcome("skipped", state=state))
            elif state.kind == "busy":
                if not not_before:
                    self.say(f"{job.label}: another process trains it in {state.folder}; waiting")
                waiting.append((job, not_before if state.folder is None else time.monotonic() + WAIT))
            else:
                process = self.launcher.start(job, state=state, slot=slot)
                self._running[slot] = (job, state, process, time.monotonic())
                begins = f"resumes in {state.folder}" if state.kind == "stopped" else "starts"
                self.say(f"{job.label}: {begins}; log {process.log}")

    def _collect(self) -> None:
        """Record the outcomes of the processes that have ended."""
        for slot, (job, before, process, start) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            del self._running[slot]
            seconds = time.monotonic() - start
            after = job.read_state()
            if status == 0 and after.kind == "finished":
                self._spent.append(seconds)
                whole = before.kind == "new"
                self._end(job, Outcome("finished", seconds, state=after, log=process.log, whole=whole))
            else:
                reason = process.failure(status) if status else "it ended without an error and without a result"
                self._end(job, Outcome("failed", seconds, reason=reason, log=process.log))

    def _end(self, job: Job, outcome: Outcome) -> None:
        self._done += 1
        self.ended(job, outcome)
        place = f"[{self._done}/{self._total}] {job.label}"
        if outcome.status == "skipped":
            self.say(f"{place}: finished before, {outcome.state.folder}")
        elif outcome.status == "failed":
            self.say(f"{place}: failed after {span(outcome.seconds)}: {outcome.reason} (log {outcome.log})")
        else:
            self.say(f"{place}: {outcome.state.folder}, {span(outcome.seconds)}{self._left()}")

    def _left(self) -> str:
        """Return the expected time of the remaining jobs, by the mean of the finished ones, as text; empty if unknown."""
        remaining = self._total - self._done
        mean = sum(self._spent) / len(self._spent) if self._spent else self._known
        return f"; about {span(mean * remaining / min(self.launcher.limit, remaining))} left" if remaining and mean else ""

    def _stop(self, received: list[int]) -> None:
        """Stop all processes and raise; a second signal kills them."""
        processes = [process for _, _, process, _ in self._running.values()]
        self._running = {}
        if not self.launcher.detached:
            self.say(f"stopping {len(processes)} runs after their step; press Ctrl-C again to kill them")
            for process in processes:
                process.interrupt()
            while any(process.poll() is None for process in processes):
                if len(received) > 1:
                    for process in processes:
                        process.kill()
                time.sleep(TICK)
        raise Stopped(received[0], detached=self.launcher.detached)
