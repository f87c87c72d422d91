"""Run the command line in a process of its own, as a user does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import warm

ROOT = Path(__file__).resolve().parents[2]
KILL = str(Path(__file__).with_name("kill_at.py"))


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


def result(folder: Path, version: int = 0) -> dict:
    """The ``result.json`` of a run in ``folder``, whatever its experiment and scale."""
    (path,) = folder.glob(f"lightning_logs/*/*/version_{version}/result.json")
    return json.loads(path.read_text())


def same(one, other):
    """Hold two records to the same weights, metrics, steps, loss and best checkpoint."""
    keys = ("weights_sha256", "metrics", "steps", "loss", "best")
    assert {key: one[key] for key in keys} == {key: other[key] for key in keys}


def terminated_as_a_group(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``gestalt WORDS``, sent SIGTERM while it trains, with its whole process group, as torchrun
    and schedulers do.
    """
    code = SLOW_STEPS.format(module="gestalt.module", owner="ContrastiveModule")
    process = warm.Warm([sys.executable, "-c", code, *words], cwd=folder, env=environment())
    await_start(folder)
    os.killpg(process.pid, signal.SIGTERM)
    return process.communicate(timeout=300)


def await_start(folder: Path) -> None:
    """Wait until a process has made the file ``started``."""
    deadline = time.monotonic() + 300
    while not (folder / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def interrupted(*words: str, folder: Path, module: str, owner: str) -> str:
    """``gestalt WORDS``, interrupted by Ctrl-C in the second step of ``owner``, a LightningModule
    in ``module``.  Returns stderr.
    """
    code = SLOW_STEPS.format(module=module, owner=owner)
    command = [sys.executable, "-c", code, *words]
    process = warm.Warm(command, cwd=folder, env=environment())
    await_start(folder)
    os.kill(process.pid, signal.SIGINT)
    done = process.communicate(timeout=300)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    return done.stderr


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
