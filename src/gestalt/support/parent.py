"""Processes that end with the one that started them, however that one ends."""

import os
import signal
import threading
import time

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
    """End with the process that started this one, if it asked for that: save and stop as after
    SIGTERM, and in any case soon.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        end_with(int(parent), grace=GRACE)


def end_with(parent: int, grace: float = 0.0) -> None:
    """Kill this process when its parent ends, by a thread that looks for it; with ``grace``, send
    SIGTERM so many seconds before.
    """
    threading.Thread(target=_watch, args=(parent, grace), daemon=True).start()


def _watch(parent: int, grace: float) -> None:
    while os.getppid() == parent:
        time.sleep(TICK)
    if grace:
        # SIGALRM ends it even where this thread no longer runs, as at the interpreter's end
        signal.setitimer(signal.ITIMER_REAL, grace)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)
