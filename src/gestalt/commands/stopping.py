"""The end of a long run: message and exit status after a signal, a non-finite loss or too many bad
samples.
"""

import os
import shlex
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gestalt.config.check_launch import LAUNCHERS
from gestalt.config.loading import LOGS
from gestalt.models.names import CHECKPOINT
from gestalt.runs.requeue import DIVERGED, requeue_job
from gestalt.support.addresses import without_secrets
from gestalt.support.ranks import first_rank
from gestalt.support.signals import Interrupted
from gestalt.training.bad_samples import TooManyBad
from gestalt.training.finite import NonFiniteLoss


def until_stopped(work: Callable[[], object]) -> int:
    """Call ``work``, which may raise NonFiniteLoss or TooManyBad to stop.  Returns the exit status:
    0, or 1 if it did.
    """
    try:
        work()
    except (NonFiniteLoss, TooManyBad) as error:
        tell(f"gestalt: {error}")
        return 1
    return 0


@contextmanager
def noting_end(folder: Path | None) -> Iterator[None]:
    """Leave a note in a run's folder if its loss is not finite, so that ``resume=auto`` does not
    try again for ever; add the run's checkpoint to a signal that comes after training.
    """
    note = folder / DIVERGED if folder and first_rank() else None
    if note is not None:
        note.unlink(missing_ok=True)  # a note of the attempt that this one continues
    try:
        yield
    except NonFiniteLoss as error:
        if note is not None:
            note.write_text(f"{error}\n")
        raise
    except Interrupted as stop:
        if folder and (saved := folder / CHECKPOINT).is_file():
            raise Interrupted(stop.signal_number, saved) from stop
        raise


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
    if arguments.command == "ablate":
        return f"\ncontinue with: {program()} {shlex.join(arguments.words)}"
    if stop.checkpoint is None:
        if arguments.command == "eval":
            free = f", once {maps} is removed" if (maps := arguments.predictions) else ""
            return f"; finished records are kept, and the same command begins anew{free}"
        if arguments.command not in ("train", "pretrain", "features"):
            return ""
        return "; nothing is lost: run the same command again"
    runs = (LOGS / arguments.config.name).resolve() if arguments.command == "train" else None
    if runs is None or not stop.checkpoint.resolve().is_relative_to(runs):
        return "; the same command continues from there"
    launcher = (
        ", launched in the same way," if any(name in os.environ for name in LAUNCHERS) else ""
    )
    words = [word for word in arguments.overrides if not word.startswith("resume=")]
    command = shlex.join(
        ["train", arguments.experiment, "--scale", arguments.scale, *words, "resume=last"]
    )
    return f"\ncontinue{launcher} with: {program()} {command}"


def program() -> str:
    """Return the command that started this program, to be typed again."""
    called = Path(sys.argv[0])
    if called.name != "__main__.py":
        return str(called)
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f"{python} -m gestalt"


def tell(message: str) -> None:
    """Print to the standard error, on the first rank and without the secrets of URLs: the standard
    output holds results, which can be piped.
    """
    if first_rank():
        print(without_secrets(message), file=sys.stderr, flush=True)
