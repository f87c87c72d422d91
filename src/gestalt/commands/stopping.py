"""How a stopped command continues: print what to type, or let SLURM queue the job again."""

import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping

from gestalt.config.check import LAUNCHERS
from gestalt.support.process import Interrupted, first_rank, tell

SCONTROL_SECONDS = 60


def interrupted(stop: Interrupted, arguments: Namespace) -> int:
    """Print why a command stopped and how to continue it.

    After SIGUSR1, the SLURM job of a training run with ``resume=auto`` is queued again.

    Returns:
        The exit status, 128 + the number of the signal.
    """
    tell(f"gestalt: {stop}{_continuation(stop, arguments)}")
    requeues = arguments.command == "train" and arguments.checked.resume == "auto"
    if requeues and stop.signal_number == signal.SIGUSR1 and first_rank():
        tell(f"gestalt: {requeue_job(os.environ) or 'not a SLURM job; run the same command again'}")
    return 128 + stop.signal_number


def requeue_job(environment: Mapping[str, str]) -> str:
    """Ask SLURM to queue the job of this process again.  Returns a sentence on the outcome, which
    is empty outside a job.
    """
    if "SLURM_JOB_ID" not in environment:
        return ""
    job = environment["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            text=True,
            timeout=SCONTROL_SECONDS,
            check=False,
        )
        fault = f": {' '.join(done.stderr.split())}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = f" failed: {error}"
    if fault:
        return (
            f"SLURM job {job} was not queued again, scontrol{fault}; submit the same command again"
        )
    return f"SLURM job {job} is queued again"


def _continuation(stop: Interrupted, arguments: Namespace) -> str:
    command = arguments.command
    words = arguments.words
    launcher = ""
    if command == "train" and stop.checkpoint and arguments.checked.resume not in ("last", "auto"):
        # With resume=FILE, the same command would start again from that file.
        run = "last" if arguments.checked.resume is None else stop.checkpoint.parent.parent
        words = [*(word for word in words if not word.startswith("resume=")), f"resume={run}"]
        if not LAUNCHERS.isdisjoint(os.environ):
            launcher = ", launched in the same way,"
    elif stop.checkpoint:
        return "; the same command continues from there"
    elif command == "eval":
        return "; finished records are kept, and the same command begins anew"
    elif command in ("train", "pretrain", "features"):
        return "; nothing is lost: run the same command again"
    elif command == "data":
        return "; run the same command again"
    elif command not in ("ablate", "survey"):
        return ""
    program = sys.argv[:1]
    if program[0].endswith("__main__.py"):
        program = [sys.executable, "-m", "gestalt"]
    return f"\ncontinue{launcher} with: {shlex.join([*program, *words])}"
