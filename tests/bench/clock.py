"""The clock of all parts: on an accelerator its work is waited for."""

import time
from collections.abc import Callable
from typing import Any

import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], Any]) -> float:
    """How long a piece of work takes, the accelerator's share of it too."""
    _wait()
    start = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    """Until the accelerator is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
