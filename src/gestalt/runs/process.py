"""Set up this process: the output of its libraries, and the requirements of a run."""

import logging
import os
import threading
import warnings
from importlib import import_module

from gestalt.config.schema import Experiment
from gestalt.support.process import keep_freed_memory
from gestalt.support.typed import ConfigError

QUIET = (  # warnings of Lightning and torch that do not concern a user of this program, and why
    ".*does not have many workers.*",  # a scale says how many
    ".*in eval mode at the start of training.*",  # frozen towers and batch-norms are, on purpose
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run goes on in its folder
    # short runs are fine
    ".*The number of training batches .* is smaller than the logging interval.*",
    # an epoch that is not validated has none
    ".*could not find the monitored key in the returned metrics.*",
    ".*Total length of .* across ranks is zero.*",  # a run without benchmarks is not validated
    # the steps of a plan are not validated
    ".*You defined a `validation_step` but have no `val_dataloader`.*",
    ".*treespec, LeafSpec.*",  # inside torch
    # a class token of a rank with one image, whose stride has no effect
    "Grad strides do not match bucket view strides.*",
)


def quiet(*, with_lightning: bool = True) -> None:
    """Silence the libraries' progress bars, log lines and the warnings of ``QUIET``.

    Args:
        with_lightning: also silence Lightning, which is imported for that.
    """
    # transformers and the hub's client read it when they are imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if with_lightning:
        import_module("lightning.pytorch")  # importing sets the levels of its loggers
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)  # tips, device lists, a line a rank
    # Only the root logger: open_clip logs errors there that it also raises.
    logging.getLogger().addFilter(lambda record: False)
    for pattern in QUIET:
        warnings.filterwarnings("ignore", pattern)
    threading.excepthook = _quiet_board


def _quiet_board(failure: threading.ExceptHookArgs) -> None:
    """Print the error that ended a thread.

    Errors of TensorBoard's writer are not printed, because the next write raises them in the main
    thread.
    """
    if type(failure.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(failure)


def prepare(config: Experiment) -> None:
    """Check that this process can run training steps, and set it up.

    Raises:
        ValueError: this machine or an installed package cannot do what the configuration asks for.
    """
    from lightning.pytorch import Callback

    from gestalt.training.classes import CALLBACKS, check_loggers, classes_of
    from gestalt.training.machine import check_machine

    check_machine(config.trainer)
    check_loggers(config.logger)
    classes_of(CALLBACKS, config.trainer.callbacks, Callback)
    keep_freed_memory()


def check_alone(what: str) -> None:
    """Refuse to run in several processes of a launcher, each of which would do the same work.  The
    message begins with ``what``.

    Raises:
        ConfigError: names the launcher.
    """
    for name, launcher in {"WORLD_SIZE": "torchrun", "SLURM_NTASKS": "SLURM"}.items():
        count = os.environ.get(name, "1")
        if count != "1":
            raise ConfigError(
                f"{what} one device in one process, and {launcher} started {count}; call it "
                f"without {launcher}"
            )
