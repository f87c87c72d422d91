"""Start a test file as the ranks of one job."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def be_rank(work: Callable[[int, Path], None]) -> None:
    """What a file that ``run_ranks`` starts does: ``work`` of its rank and folder, and then an orderly end.

    DDP holds the process group, destroyed or not, until it is collected.  If that is at the interpreter's own end, a thread of gloo that
    still lets go of a tensor aborts the process (pytorch/pytorch pull request 179291).
    """
    work(int(sys.argv[2]), Path(sys.argv[1]))
    gc.collect()


def run_ranks(file: str, folder: Path, *, ranks: int) -> list[dict[str, Any]]:
    """Run ``file FOLDER RANK`` once a rank, as separate processes that meet in a file, with warnings as errors.

    Returns:
        What each rank left in ``rank<n>.pt``.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", file, str(folder)]
    processes = [subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE, text=True) for rank in range(ranks)]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * ranks, errors
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(ranks)]
