"""Works at many runs, each a process of its own: some at a time, a failed one recorded, all stopped cleanly by one Ctrl-C."""

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

TICK = 0.1  # seconds between two looks at the processes
WAIT = 2.0  # seconds between two looks at a run in another process's hands


class Process(Protocol):
    """A run under way.

    Attributes:
        log: the file that its output goes to.
    """

    @property
    def log(self) -> Path: ...  # noqa: D102

    def poll(self) -> int | None:
        """The exit status, None while it works."""

    def why(self, status: int) -> str:
        """One line on why it failed."""

    def interrupt(self) -> None:
        """Ask it to save and stop."""

    def kill(self) -> None:
        """End it at once."""


class Launcher(Protocol):
    """What starts runs.

    Attributes:
        limit: how many at a time.
        detached: whether they go on when this process stops.
    """

    @property
    def limit(self) -> int: ...  # noqa: D102
    @property
    def detached(self) -> bool: ...  # noqa: D102

    def start(self, work: Work, *, state: State, slot: int) -> Process:
        """Start one; ``slot`` counts from 0 below the limit, and no two that run share one."""


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        status: skipped was finished before.
        seconds: this process's wall time, 0 for a skipped one.
        reason: of a failure.
        state: of a finished one.
        log: where its output is.
        whole: whether ``seconds`` is all that the run took.
    """

    status: Literal["finished", "skipped", "failed"]
    seconds: float = 0.0
    reason: str = ""
    state: State = State("new")
    log: Path | None = None
    whole: bool = False


class Stopped(RuntimeError):
    """A signal came, and all processes have ended, or go on by themselves on a cluster."""

    def __init__(self, signal_number: int, *, detached: bool) -> None:
        what = "the submitted jobs go on" if detached else "the runs have stopped, each can go on from its last checkpoint"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; {what}")
        self.signal_number = signal_number


@dataclass
class Pool:
    """Runs under way and runs to come.

    Attributes:
        launcher: starts one.
        say: takes a line for people.
        ended: takes each run's outcome as it comes.
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
        """Bring all to their end.

        Args:
            works: in order; a finished one is skipped, one in another process's hands is waited for.
            expected: seconds a run takes, if known.

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
        """Start what may start; each one waiting is looked at once at most."""
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
                    self.say(f"{work.label}: another process trains it in {state.folder}; waiting for it")
                waiting.append((work, not_before if state.folder is None else time.monotonic() + WAIT))
            else:
                process = self.launcher.start(work, state=state, slot=slot)
                self._running[slot] = (work, state, process, time.monotonic())
                begins = f"goes on in {state.folder}" if state.kind == "stopped" else "starts"
                self.say(f"{work.label}: {begins}; log {process.log}")

    def _collect(self) -> None:
        """Take the ends of those that ended."""
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
                reason = process.why(status) if status else "it ended well and left no result"
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
        """How long the rest takes, by the mean of those that ended."""
        rest = self._total - self._done
        each = sum(self._spent) / len(self._spent) if self._spent else self._known
        return f"; about {span(each * rest / min(self.launcher.limit, rest))} left" if rest and each else ""

    def _stop(self, received: list[int]) -> None:
        """Stop all, and raise; a second signal ends them at once."""
        if not self.launcher.detached:
            self.say(f"stopping {len(self._running)} runs after their step; once more to end them at once")
            for _, _, process, _ in self._running.values():
                process.interrupt()
            while any(process.poll() is None for _, _, process, _ in self._running.values()):
                if len(received) > 1:
                    for _, _, process, _ in self._running.values():
                        process.kill()
                time.sleep(TICK)
        self._running = {}
        raise Stopped(received[0], detached=self.launcher.detached)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """The numbers of the SIGINT and SIGTERM that came meanwhile."""
    received: list[int] = []

    def receive(number: int, frame: Any) -> None:
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
