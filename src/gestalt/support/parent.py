"""Processes that end with the one that started them, however that one ends."""

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "GESTALT_PARENT"
"""Environment variable with the id of the process that a program started by this one must end with."""

TICK = 1.0  # seconds between checks of the parent
GRACE = 7.0  # seconds allowed for saving and stopping

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process receives when its parent ends."""


def followed() -> dict[str, str]:
    """Return the environment for a program that calls ``follow``, which makes it end with this process."""
    return {**os.environ, PARENT: str(os.getpid())}


def follow() -> None:
    """End with the process that started this one, if it asked for that: save and stop as after SIGTERM, and in any case soon."""
    parent = os.environ.pop(PARENT, None)
    if parent is not None:
        threading.Thread(target=_watch, args=(int(parent), GRACE), daemon=True).start()


def end_with(parent: int) -> None:
    """Kill this process when its parent ends: on Linux the kernel does, even within a library's call; elsewhere a thread."""
    if sys.platform != "linux":
        threading.Thread(target=_watch, args=(parent, 0.0), daemon=True).start()
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def _watch(parent: int, grace: float) -> None:
    while os.getppid() == parent:
        time.sleep(TICK)
    if grace:
        signal.setitimer(signal.ITIMER_REAL, grace)  # SIGALRM ends it even where this thread no longer runs, as at the interpreter's end
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)
