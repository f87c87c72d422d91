"""How a stopped command goes on."""

import os
import shlex
import signal
import sys
from argparse import Namespace
from pathlib import Path

from gestalt.config.check import LAUNCHERS
from gestalt.runs.requeue import requeue_job
from gestalt.support.process import Interrupted
from gestalt.support.ranks import first_rank, tell


def interrupted(stop: Interrupted, arguments: Namespace) -> int:
    """Print why a command stopped and how to go on; after SIGUSR1 queue the SLURM job of a training
    with ``resume=auto`` again.

    Returns:
        The exit status, 128 + the number of the signal.
    """
    tell(f"gestalt: {stop}{_continuation(stop, arguments)}")
    requeues = arguments.command == "train" and arguments.config.resume == "auto"
    if requeues and stop.signal_number == signal.SIGUSR1 and first_rank():
        tell(f"gestalt: {requeue_job(os.environ) or 'not a SLURM job; run the same command again'}")
    return 128 + stop.signal_number


def _continuation(stop: Interrupted, arguments: Namespace) -> str:
    command = arguments.command
    words = arguments.words
    launcher = ""
    if command == "train" and stop.checkpoint and arguments.config.resume not in ("last", "auto"):
        # With resume=FILE the same command would begin again at that file.
        run = "last" if arguments.config.resume is None else stop.checkpoint.parent.parent
        words = [*(word for word in words if not word.startswith("resume=")), f"resume={run}"]
        if any(name in os.environ for name in LAUNCHERS):
            launcher = ", launched in the same way,"
    elif stop.checkpoint:
        return "; the same command continues from there"
    elif command == "eval":
        free = f", once {maps} is removed" if (maps := arguments.predictions) else ""
        return f"; finished records are kept, and the same command begins anew{free}"
    elif command in ("train", "pretrain", "features"):
        return "; nothing is lost: run the same command again"
    elif command == "data":
        return "; run the same command again"
    elif command != "ablate":
        return ""
    return f"\ncontinue{launcher} with: {program()} {shlex.join(words)}"


def program() -> str:
    """Return the command that started this program, to be typed again."""
    called = Path(sys.argv[0])
    if called.name != "__main__.py":
        return str(called)
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{python} -m gestalt"
