"""Run the command line in a process of its own, as a user does."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KILL = str(Path(__file__).with_name("kill_at.py"))


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what an outer launcher may have left, and with one thread a process."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK")}
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def gestalt(
    *words: str, folder: Path, program: tuple[str, ...] = ("-m", "gestalt"), threads: int | None = 1
) -> subprocess.CompletedProcess[str]:
    """``gestalt WORDS`` with ``folder`` as the working directory; five minutes at most; ``threads`` None leaves torch its default."""
    variables = environment()
    if threads is None:
        variables.pop("OMP_NUM_THREADS")
    command = [sys.executable, *program, *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)


def result(folder: Path, version: int = 0) -> dict:
    """The ``result.json`` of a run in ``folder``, whatever its experiment and scale."""
    (path,) = folder.glob(f"lightning_logs/*/*/version_{version}/result.json")
    return json.loads(path.read_text())
