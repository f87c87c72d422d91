"""The clocks of all parts: they wait until the accelerator is done."""

import time
from collections.abc import Callable
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


def synchronise() -> None:
    """Wait until the accelerator is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
