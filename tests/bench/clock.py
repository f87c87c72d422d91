"""The clocks of all parts: they wait until the accelerator is done."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a piece of work takes, on the accelerator too."""
    synchronise()
    start = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - start


def busy_seconds(work: Callable[[], Any]) -> float:
    """Return the CPU time of a piece of work, which other work on the machine does not lengthen; by
    the clock on an accelerator.
    """
    if DEVICE.type != "cpu":
        return seconds(work)
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turns(
    works: dict[Any, Callable[[], Any]], *, rounds: int, calls: int = 1
) -> dict[Any, list[float]]:
    """Return the seconds of a call of each work in each round, the mean of ``calls``; the works
    take turns, and a first round warms up.
    """
    taken: dict[Any, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(lambda work=work: [work() for _ in range(calls)]) / calls
            if number > 0:
                taken[name].append(spent)
    return taken


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of ours by theirs over the rounds that both have."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=False))


def synchronise() -> None:
    """Wait until the accelerator is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
