"""Be the ranks of one job: a test file started once a rank, or threads of this process."""

import gc
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from tests.gestalt.command import environment
from tests.warm import Warm


def be_rank(work: Callable[[int], dict[str, Any]], *, ranks: int = 2) -> None:
    """Run the ``work`` of a file that ``run_ranks`` started, as a rank of a gloo group; leave what
    it returns in ``rank<n>.pt``, and end in order.

    DDP holds the process group, destroyed or not, until it is collected.  If that is at the
    interpreter's own end, a thread of gloo that still lets go of a tensor aborts the process
    (pytorch/pytorch pull request 179291).
    """
    warnings.simplefilter("error")
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    torch.save(work(rank), folder / f"rank{rank}.pt")
    distributed.destroy_process_group()
    gc.collect()


def run_ranks(file: str, folder: Path, *, ranks: int = 2) -> list[dict[str, Any]]:
    """Run ``file FOLDER RANK`` once a rank, as separate processes that meet in a file, with
    warnings as errors.  Returns what each rank left.
    """
    run_all([file, str(folder), str(rank)] for rank in range(ranks))
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(ranks)]


def run_all(commands: Iterable[list[str]]) -> None:
    """Run ``python COMMAND`` for each of the commands, at the same time; none may fail."""
    processes = [
        Warm([sys.executable, *command], cwd=Path.cwd(), env=environment()) for command in commands
    ]
    done = [process.communicate(timeout=300) for process in processes]
    assert not any(one.returncode for one in done), [one.stderr for one in done]


class Threads:
    """Collectives between the threads of this process, in place of those of
    ``torch.distributed``.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._own = threading.local()
        self._given: dict[int, Any] = {}
        self._barrier = threading.Barrier(ranks, timeout=60)

    def be_rank(self, rank: int, work: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Do the work of a rank; if it fails, no other waits for it."""
        self._own.rank = rank
        try:
            return work(rank)
        except BaseException:
            self._barrier.abort()
            raise

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self) -> int:
        return self._ranks

    def get_rank(self) -> int:
        rank: int = self._own.rank
        return rank

    def get_backend(self) -> str:
        return "gloo"

    def all_gather(self, parts: list[Tensor], value: Tensor) -> None:
        for part, given in zip(parts, self._exchanged(value.detach().clone()), strict=True):
            part.copy_(given)

    def all_gather_object(self, parts: list[Any], value: Any) -> None:
        parts[:] = self._exchanged(value)

    def all_reduce(self, value: Tensor) -> None:
        value.copy_(torch.stack(self._exchanged(value.detach().clone())).sum(dim=0))

    def broadcast(self, value: Tensor, src: int) -> None:
        value.copy_(self._exchanged(value.clone())[src])

    def _exchanged(self, value: Any) -> list[Any]:
        self._given[self.get_rank()] = value
        self._barrier.wait()
        given = [self._given[rank] for rank in range(self._ranks)]
        self._barrier.wait()
        return given


def mean_over_threads(work: Callable[[int], dict[str, Tensor]], *, ranks: int) -> dict[str, Tensor]:
    """Do the work of each rank in a thread, which starts at once where a process takes seconds.

    Returns:
        The mean of what each rank returned, as DDP averages gradients: what a rank leaves out
        counts as zero.
    """
    threads = Threads(ranks)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(ranks) as pool:
        for name in (
            "is_initialized",
            "get_world_size",
            "get_rank",
            "get_backend",
            "all_gather",
            "all_gather_object",
            "all_reduce",
            "broadcast",
        ):
            patch.setattr(distributed, name, getattr(threads, name))
        found = list(pool.map(lambda rank: threads.be_rank(rank, work), range(ranks)))
    names = dict.fromkeys(name for values in found for name in values)
    return {
        name: sum((values[name] for values in found if name in values), start=torch.zeros(()))
        / ranks
        for name in names
    }
