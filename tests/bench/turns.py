"""Two loops of training in turns, so that other work on the machine slows both."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from clock import synchronise


class Turns:
    """Two loops in turns of ``block`` steps, in a thread each: a loop gives its turn away when it
    asks for the batch after them.

    Attributes:
        seconds: a step, of each turn, by the clock, until the device is done.
    """

    def __init__(self, *, block: int) -> None:
        self.block = block
        self._turns = {name: threading.Semaphore(0) for name in ("ours", "theirs")}
        self.seconds: dict[str, list[float]] = {name: [] for name in self._turns}

    def batches(self, name: str, batch: Any, turns: int) -> Iterator[Any]:
        """Yield the batch in so many turns, and note the time from each turn's first batch to the
        request of the next turn's.
        """
        other = next(key for key in self._turns if key != name)
        for _ in range(turns):
            self._turns[name].acquire()
            synchronise()
            begin = time.perf_counter()
            for _ in range(self.block):
                yield batch
            synchronise()
            self.seconds[name].append((time.perf_counter() - begin) / self.block)
            self._turns[other].release()

    def give(self, name: str) -> None:
        """Give a turn: the first, or that of a loop that has ended without asking for a further
        batch.
        """
        self._turns[name].release()
