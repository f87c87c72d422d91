"""The end of a long run: message and exit status after a signal, a non-finite loss or too many bad samples."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from gestalt.callbacks.bad_samples import TooManyBad
from gestalt.callbacks.checkpoints import Interrupted
from gestalt.module import NonFiniteLoss
from gestalt.runs.folders import first_rank
from gestalt.runs.requeue import requeue_job


def until_stopped(work: Callable[[], object], *, resume: str, requeue: bool = False) -> int:
    """Call ``work`` and return the exit status: 0, 1 after a non-finite loss or too many bad samples, 128 + the number of a signal.

    Args:
        work: raises Interrupted, NonFiniteLoss or TooManyBad to stop.
        resume: text on how to continue, printed after the message of a signal.
        requeue: after SIGUSR1, ask SLURM to queue this job again.
    """
    try:
        work()
    except Interrupted as stop:
        tell(f"gestalt: {stop}{resume}")
        if requeue and stop.signal_number == signal.SIGUSR1 and first_rank():
            tell(f"gestalt: {requeue_job(os.environ) or 'not a SLURM job; start the same line again'}")
        return 128 + stop.signal_number
    except (NonFiniteLoss, TooManyBad) as error:
        tell(f"gestalt: {error}")
        return 1
    return 0


def program() -> str:
    """Return the command that started this program, to be typed again."""
    called = Path(sys.argv[0])
    if called.name != "__main__.py":
        return str(called)
    python = Path(sys.executable)
    return f"{python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python} -m gestalt"


def tell(message: str) -> None:
    """Print to the standard error, on the first rank: the standard output holds results, which can be piped."""
    if first_rank():
        print(message, file=sys.stderr, flush=True)
