"""Control this process: printing, signals to stop, the parent process, memory, and waiting threads.

torch and Lightning are not imported, because that takes seconds.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from gestalt.support.addresses import without_secrets

RANK = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables in which launchers give a process its rank, in Lightning's order."""


def first_rank() -> bool:
    """Return True if this process is rank 0, according to Lightning if it is imported, and else
    according to the launcher's environment variables.
    """
    lightning = sys.modules.get("lightning.pytorch.utilities.rank_zero")
    rank_zero_only = getattr(lightning, "rank_zero_only", None)
    given = next(filter(None, map(os.environ.get, RANK)), 0)
    return int(getattr(rank_zero_only, "rank", given)) == 0


def tell(message: str) -> None:
    """Print to the standard error on the first rank, without the secrets of URLs.

    The standard output is for results, which can be piped.
    """
    if first_rank():
        print(without_secrets(message), file=sys.stderr, flush=True)


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


# Not an Exception, because libraries catch exceptions, for example as a failed download.
class Interrupted(BaseException):
    """A signal stopped the work.

    Attributes:
        signal_number: number of the signal.
        checkpoint: the checkpoint that was saved; None if no training was running.
    """

    def __init__(self, signal_number: int, checkpoint: Path | None = None) -> None:
        saved = "" if checkpoint is None else f"; saved {checkpoint}"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}{saved}")
        self.signal_number = signal_number
        self.checkpoint = checkpoint


@contextmanager
def handle(*numbers: int, by: Any) -> Iterator[None]:
    """Handle signals in the block, and restore the previous handlers after it.  Only the main
    thread can do this; in other threads nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, by) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def noting() -> Iterator[list[int]]:
    """Yield a list that collects the stopping signals received in the block.  A second signal of
    the same kind has the system's default action.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    with handle(*STOPPING, by=receive):
        yield received


@contextmanager
def defer() -> Iterator[None]:
    """Defer stopping signals to the end of the block, where Interrupted is raised.  This protects
    imports, because an interrupted import cannot be repeated.
    """
    with noting() as received:
        yield
        if received:
            raise Interrupted(received[-1])


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal by raising Interrupted.  A second signal has the system's default action."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


PARENT = "GESTALT_PARENT"
"""Environment variable with the id of the process that a program started by this one must end
with.
"""

TICK = 1.0  # seconds between checks of the parent
GRACE = 7.0  # seconds allowed for saving and stopping


def follow_environment() -> dict[str, str]:
    """Return the environment for a program that calls ``follow``, which makes it end with this
    process.
    """
    return {**os.environ, PARENT: str(os.getpid())}


def follow() -> None:
    """End this process together with the process that started it, if that process requested it.

    The process saves and stops as after SIGTERM, and is killed if this takes too long.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        end_with(int(parent), grace=GRACE)


def end_with(parent: int, grace: float = 0.0) -> None:
    """Start a thread that kills this process when its parent ends.  With ``grace``, SIGTERM is sent
    that many seconds before.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(TICK)
        if grace:
            # SIGALRM ends it even where this thread no longer runs, as at the interpreter's end
            signal.setitimer(signal.ITIMER_REAL, grace)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt, in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step or image.  This has no effect with other C
    libraries.

    Otherwise large tensors are mapped again each time, and the kernel clears every page. This takes
    a tenth of the processor time of the demo, and a fifth of the time of evaluating photographs on
    a CPU. Results stay equal bit by bit; the process keeps its peak memory.  It does not concern an
    accelerator's memory.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):  # musl has none
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def free_memory() -> int:
    """Return the number of free bytes of memory, within the limit of a container."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):  # not Linux
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    with suppress(OSError, ValueError):  # no container, or no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        # pages of files that the kernel gives back
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(counts["inactive_file"]))
    return free


WAIT = "3000"
"""Turns of the loop in which a thread of GNU's OpenMP, torch's on Linux, waits for the others
before it sleeps; its own default is 300,000.

Beside other processes a waiting thread takes the core from the one it waits for.  On two cores with
six other processes a step of the demo took 0.39 of its time with the default, and on idle cores no
longer than with it (experiments/LOG.md).
"""


def shorten_wait() -> None:
    """Set how long threads wait in this process and its children, unless the user has set it.  This
    has no effect after torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", WAIT)
