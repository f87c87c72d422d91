"""Run the command line in a process of its own, as a user does, or in this one; a line is split as
a shell does.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gestalt.__main__ import main
from tests import warm

ROOT = Path(__file__).resolve().parents[2]
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "gestalt",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}
"""Variables of a job of one process."""

KILL = str(Path(__file__).with_name("kill_at.py"))
TINY = "--scale tiny trainer.enable_progress_bar=false"
TRAIN = f"train clippy_dino_max {TINY} checkpoint_every_steps=3"
"""A run of eight steps."""

TWO_RANKS = "trainer.devices=2 trainer.strategy=ddp"


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what an outer launcher may have left, and with one thread
    a process.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if key not in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK")
    }
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def gestalt(
    *words: str, folder: Path, program: tuple[str, ...] = ("-m", "gestalt"), threads: int | None = 1
) -> subprocess.CompletedProcess[str]:
    """``gestalt WORDS`` with ``folder`` as the working directory; fifteen minutes at most;
    ``threads`` None leaves torch its default.

    On one thread a process starts warm.
    """
    variables = environment()
    if threads is None:
        variables.pop("OMP_NUM_THREADS")
    run = subprocess.run if threads is None else warm.run
    return run(
        [sys.executable, *program, *words],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=900,
    )


def run_here(line: str, *words: str, status: int = 0) -> None:
    """``gestalt LINE WORDS`` in this process; checks its exit status."""
    assert main([*shlex.split(line), *words]) == status


def succeed(line: str, *words: str, folder: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """``gestalt LINE WORDS``, which has to succeed."""
    done = gestalt(*shlex.split(line), *words, folder=folder, **how)
    assert done.returncode == 0, done.stderr
    return done


def refused(line: str, *words: str, folder: Path, status: int = 2, **how: Any) -> str:
    """``gestalt LINE WORDS``, which has to be refused without a traceback.  Returns stderr."""
    done = gestalt(*shlex.split(line), *words, folder=folder, **how)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def killed(moment: str, line: str, *, folder: Path, **how: Any) -> None:
    """``gestalt LINE``, killed at a moment of ``kill_at.py``, such as "step 5"."""
    done = gestalt(*shlex.split(f"{moment} {line}"), folder=folder, program=(KILL,), **how)
    assert done.returncode == -signal.SIGKILL, done.stderr


def result(folder: Path, version: int = 0) -> dict:
    """The ``result.json`` of a run in ``folder``, whatever its experiment and scale."""
    (path,) = folder.glob(f"lightning_logs/*/*/version_{version}/result.json")
    return json.loads(path.read_text())


def same(one, other):
    """Hold two records to the same weights, metrics, steps, loss and best checkpoint."""
    keys = ("weights_sha256", "metrics", "steps", "loss", "best")
    assert {key: one[key] for key in keys} == {key: other[key] for key in keys}


def slowed(
    line: str, *, folder: Path, module: str = "gestalt.module", owner: str = "ContrastiveModule"
) -> warm.Warm:
    """``gestalt LINE``, under way, whose second step of ``owner``, a LightningModule in ``module``,
    takes two seconds.
    """
    code = SLOW_STEPS.format(module=module, owner=owner)
    command = [sys.executable, "-c", code, *shlex.split(line)]
    return warm.Warm(command, cwd=folder, env=environment())


def ended_by(
    number: int, process: warm.Warm, *, folder: Path, kill: Callable[[int, int], None] = os.kill
) -> str:
    """Send a signal to a process that has made the file ``started``, or by ``os.killpg`` to its
    group; it has to end by it.  Returns stderr.
    """
    await_start(folder)
    kill(process.pid, number)
    done = process.communicate(timeout=300)
    assert done.returncode == 128 + number, done.stderr
    return done.stderr


def await_start(folder: Path) -> None:
    """Wait until a process has made the file ``started``."""
    deadline = time.monotonic() + 300
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


SLOW_STEPS = """
import sys, time
from pathlib import Path
from {module} import {owner}
from gestalt.__main__ import main
step = {owner}.training_step
def slow(self, batch, index):
    if self.global_step == 1:
        Path("started").touch()
        time.sleep(2)
    return step(self, batch, index)
{owner}.training_step = slow
sys.exit(main(sys.argv[1:]))
"""


def printed(metric: str, said: str) -> float:
    """The value of a metric in a closing table."""
    return float(re.search(rf"^\| {metric} +\| (\S+)", said, flags=re.MULTILINE)[1])
