"""Runs many jobs, each as a process: a few at a time, failures recorded, all stopped cleanly by Ctrl-C."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from gestalt.ledger.text import span
from gestalt.studies.jobs import State, Work

TICK = 0.1  # seconds between polls of the processes
WAIT = 2.0  # seconds between looks at a run that another process holds


class Process(Protocol):
    """A running job.

    Attributes:
        log: file of its output.
    """

    @property
    def log(self) -> Path: ...  # noqa: D102

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""

    def why(self, status: int) -> str:
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

    def start(self, work: Work, *, state: State, slot: int) -> Process:
        """Start a job; ``slot`` in [0, limit) differs between the jobs that run at the same time."""


class Outcome(NamedTuple):
    """The outcome of a job.

    Attributes:
        status: skipped if it was finished before.
        seconds: wall time in this call, 0 if skipped.
        reason: of a failure.
        state: if finished.
        log: file of its output.
        whole: True if ``seconds`` is all that the run took.
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
        rest = "the submitted jobs go on" if detached else "all runs have stopped and can be resumed from their last checkpoints"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; {rest}")
        self.signal_number = signal_number


@dataclass
class Pool:
    """Runs jobs and reports their outcomes.

    Attributes:
        launcher: starts a job.
        say: takes a line of progress.
        ended: takes the outcome of each job.
    """

    launcher: Launcher
    say: Callable[[str], None]
    ended: Callable[[Work, Outcome], None]
    _running: dict[int, tuple[Work, State, Process, float]] = field(default_factory=dict)
    _spent: list[float] = field(default_factory=list)
    _known: float | None = None
    _done: int = 0
    _total: int = 0

    def run(self, works: Sequence[Work], *, expected: float | None = None) -> None:
        """Run all jobs to their end.

        Args:
            works: in order; finished jobs are skipped, those that another process holds are waited for.
            expected: seconds of a job, if known.

        Raises:
            Stopped: after Ctrl-C or SIGTERM.
        """
        waiting = deque((work, 0.0) for work in works)
        self._done, self._total, self._known, self._spent = 0, len(works), expected, []
        with signals() as received:
            while waiting or self._running:
                if received:
                    self._stop(received)
                self._collect()
                self._fill(waiting)
                time.sleep(TICK)

    def _fill(self, waiting: deque[tuple[Work, float]]) -> None:
        """Start jobs while slots are free; look at each waiting job at most once."""
        for _ in range(len(waiting)):
            slot = next((slot for slot in range(self.launcher.limit) if slot not in self._running), None)
            if slot is None:
                return
            work, not_before = waiting.popleft()
            state = work.look() if not_before <= time.monotonic() else State("busy")
            if state.kind == "finished":
                self._end(work, Outcome("skipped", state=state))
            elif state.kind == "busy":
                if not not_before:
                    self.say(f"{work.label}: another process trains it in {state.folder}; waiting")
                waiting.append((work, not_before if state.folder is None else time.monotonic() + WAIT))
            else:
                process = self.launcher.start(work, state=state, slot=slot)
                self._running[slot] = (work, state, process, time.monotonic())
                begins = f"resumes in {state.folder}" if state.kind == "stopped" else "starts"
                self.say(f"{work.label}: {begins}; log {process.log}")

    def _collect(self) -> None:
        """Record the outcomes of the processes that have ended."""
        for slot, (work, before, process, start) in list(self._running.items()):
            status = process.poll()
            if status is None:
                continue
            del self._running[slot]
            seconds = time.monotonic() - start
            after = work.look()
            if status == 0 and after.kind == "finished":
                self._spent.append(seconds)
                whole = before.kind == "new"
                self._end(work, Outcome("finished", seconds, state=after, log=process.log, whole=whole))
            else:
                reason = process.why(status) if status else "it ended without an error and without a result"
                self._end(work, Outcome("failed", seconds, reason=reason, log=process.log))

    def _end(self, work: Work, outcome: Outcome) -> None:
        self._done += 1
        self.ended(work, outcome)
        place = f"[{self._done}/{self._total}] {work.label}"
        if outcome.status == "skipped":
            self.say(f"{place}: finished before, {outcome.state.folder}")
        elif outcome.status == "failed":
            self.say(f"{place}: failed after {span(outcome.seconds)}: {outcome.reason} (log {outcome.log})")
        else:
            self.say(f"{place}: {outcome.state.folder}, {span(outcome.seconds)}{self._left()}")

    def _left(self) -> str:
        """Return how long the rest takes, by the mean of the jobs that ended."""
        rest = self._total - self._done
        mean = sum(self._spent) / len(self._spent) if self._spent else self._known
        return f"; about {span(mean * rest / min(self.launcher.limit, rest))} left" if rest and mean else ""

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


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect the numbers of SIGINT and SIGTERM while the context is open."""
    received: list[int] = []

    def receive(number: int, frame: Any) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
