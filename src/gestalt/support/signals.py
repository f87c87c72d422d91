"""The signals that ask this program to stop: Ctrl-C, SIGTERM, and SIGUSR1, which a scheduler sends
before its time limit.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


# not an Exception: libraries catch those, as a download that failed
class Interrupted(BaseException):
    """A signal stopped the work.

    Attributes:
        signal_number: number of the signal.
        checkpoint: the checkpoint that was saved; None if no training step was under way.
    """

    def __init__(self, signal_number: int, checkpoint: Path | None = None) -> None:
        saved = "" if checkpoint is None else f"; saved {checkpoint}"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}{saved}")
        self.signal_number = signal_number
        self.checkpoint = checkpoint


@contextmanager
def handle(*numbers: int, by: Any) -> Iterator[None]:
    """Handle signals in the block; restore the previous handlers after it.  Only the main thread
    can; in others nothing changes.
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
def defer() -> Iterator[None]:
    """Defer the stopping signals to the end of the block, where Interrupted is raised: an import
    that is cut short cannot be repeated.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    with handle(*STOPPING, by=receive):
        yield
        if received:
            raise Interrupted(received[-1])


def stop(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted, as a handler; a second signal has the system's default action."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)
