"""Classes that a configuration names by their paths: the callbacks of ``trainer.callbacks``, and
the loggers of ``logger`` with the logger's run that a resumed run continues.
"""

import csv
import inspect
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from gestalt.support.faults import StoppedRun
from gestalt.support.files import replacing
from gestalt.support.keys import Keys, refuse
from gestalt.support.plugins import OTHERS
from gestalt.support.process import first_rank
from gestalt.support.typed import ConfigError
from gestalt.training.checkpoints import BEST
from gestalt.training.keys import CLASS_PATHS, LAST, ClassPath, class_paths

CALLBACKS = "trainer.callbacks"

Entries = list[ClassPath | str]
"""Value of a key of ``CLASS_PATHS``."""


def classes_of(key: str, entries: Entries, base: type[Any]) -> list[tuple[ClassPath, Any]]:
    """Import the classes that ``logger`` or ``trainer.callbacks`` names; each with its entry.

    Args:
        key: which of them.
        entries: its value.
        base: class of Lightning that they extend.

    Raises:
        ConfigError: one cannot be imported, or is no subclass of ``base``.
    """
    found = []
    for part in class_paths(key, entries):
        try:
            kind = resolve_name(part.class_path)
        except OTHERS as error:
            raise ConfigError(
                f"{key}={part.class_path}: cannot be imported: {type(error).__name__}: {error}; "
                "install its package, or put the folder of your file on PYTHONPATH"
            ) from error
        if not isinstance(kind, type) or not issubclass(kind, base):
            why = f"not a {base.__name__} of Lightning; choose one such as {CLASS_PATHS[key]}"
            refuse(key, part.class_path, why)
        found.append((part, kind))
    return found


@contextmanager
def making(key: str, part: ClassPath) -> Iterator[None]:
    """Name an entry in an error of its object, within the block.

    Raises:
        ConfigError: any error; the message quotes it.
    """
    try:
        yield
    except OTHERS as error:
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise ConfigError(
            f"{key}={part.class_path}: {said}; change {key}, or leave it out"
        ) from error


def build_callbacks(entries: Entries) -> list[Callback]:
    """Build the callbacks that ``trainer.callbacks`` names; a ``ModelCheckpoint`` without
    ``dirpath`` writes beside the run's checkpoints.

    Raises:
        ConfigError: one cannot be made, or would write the run's own checkpoints.
    """
    callbacks: list[Callback] = []
    for part, kind in classes_of(CALLBACKS, entries, Callback):
        with making(CALLBACKS, part):
            callbacks.append(made := kind(**part.init_args))
        if (
            isinstance(made, ModelCheckpoint)
            and made.dirpath is None
            and (made.save_last or made.filename in (LAST, BEST))
        ):
            why = f"{LAST} and {BEST} are the run's own; set dirpath, or other names of its files"
            refuse(CALLBACKS, part.class_path, why)
    return callbacks


@contextmanager
def naming_callbacks(entries: Entries) -> Iterator[None]:
    """Name the entry of ``trainer.callbacks`` whose object raises an error within the block, such
    as one that lacks an optional package; errors of all other code pass.

    Raises:
        ConfigError: names the entry and quotes its error.
    """
    try:
        yield
    except (
        AttributeError,
        ImportError,
        LookupError,
        MisconfigurationException,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        raising = [type(frame.f_locals.get("self")) for frame in frames]
        for part, kind in classes_of(CALLBACKS, entries, Callback):
            # the Trainer itself refuses a second progress bar, by its name
            named = kind in raising or f"`{kind.__name__}`" in str(error)
            if named and not isinstance(error, StoppedRun):
                with making(CALLBACKS, part):
                    raise
        raise


RUN_ARGUMENTS = ("id", "run_id", "experiment_key", "version")
"""Names of the argument that says which run a logger continues: wandb's, MLflow's, Comet's, and
Lightning's own.
"""


class Loggers(Callback):
    """The loggers beside TensorBoard: each gets the configuration, and the checkpoint keeps which
    run each writes.

    Args:
        keys: configuration of the run, as dicts and lists.
        loggers: the loggers by their place in ``logger`` and their class path.
    """

    def __init__(self, keys: Keys, loggers: Mapping[str, Logger]) -> None:
        self.keys = keys
        self.loggers = dict(loggers)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the configuration, on the first rank."""
        if trainer.is_global_zero:
            for logger in self.loggers.values():
                logger.log_hyperparams(self.keys)

    def state_dict(self) -> dict[str, Any]:
        """Return the run that each logger writes, by the logger's place and class path."""
        return {
            place: logger.version
            for place, logger in self.loggers.items()
            if logger.version is not None
        }


def check_loggers(entries: Entries) -> None:
    """Refuse an entry of ``logger`` whose class is no logger, before anything else is loaded.

    Raises:
        ConfigError: names the class path, the reason and what to choose.
    """
    for part, kind in classes_of("logger", entries, Logger):
        if issubclass(kind, TensorBoardLogger):
            refuse("logger", part.class_path, "TensorBoard is written in any case; leave it out")


def build_loggers(
    entries: Entries, folder: Path, *, keys: Keys, saved: Mapping[str, Any] | None
) -> Loggers:
    """Build the loggers beside TensorBoard.  Their arguments are the configuration's, else the run
    to continue, else the run's folder and name.

    Args:
        entries: the value of ``logger``.
        folder: folder of the run.
        keys: configuration of the run, as dicts and lists.
        saved: content of the checkpoint that the run resumes from, if any.

    Raises:
        ConfigError: a logger cannot be made; the message quotes the logger's error.
    """
    earlier = {} if saved is None else saved["callbacks"].get(Loggers.__qualname__, {})
    loggers = {}
    for number, (part, kind) in enumerate(classes_of("logger", entries, Logger)):
        place = f"{number} {part.class_path}"
        taken = inspect.signature(kind).parameters
        arguments: dict[str, Any] = {
            "save_dir": str(folder),
            "name": f"{keys['name']}-{keys['scale']}-{folder.name}",
        }
        # csv/ in the run's folder; in another folder, Lightning's next free version
        if issubclass(kind, CSVLogger):
            arguments |= {"name": "", "version": "csv"}
            if "save_dir" in part.init_args:
                arguments.clear()
        if place in earlier:
            run_arguments = [name for name in RUN_ARGUMENTS if name in taken]
            arguments |= dict.fromkeys(run_arguments[:1], earlier[place])
        arguments = {name: value for name, value in arguments.items() if name in taken}
        arguments |= part.init_args
        with making("logger", part):
            logger = loggers[place] = kind(**arguments)
            if first_rank():
                if saved is not None and isinstance(logger, CSVLogger):
                    _continue_csv(logger, steps=saved["global_step"])
                # a service that cannot be reached says so here, not after the first epoch
                getattr(logger, "experiment", None)
    return Loggers(keys, loggers)


class _ContinuedWriter(ExperimentWriter):
    """Writer that keeps the file of an earlier process, which Lightning's deletes."""

    def _check_log_dir_exists(self) -> None:
        """Keep the folder as it is."""


def _continue_csv(logger: CSVLogger, *, steps: int) -> None:
    """Append to the rows that the checkpoint's steps wrote; later rows will be written anew."""
    path = Path(logger.log_dir) / ExperimentWriter.NAME_METRICS_FILE
    if not path.is_file():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["step"]) < steps]
        heads = list(reader.fieldnames or ())
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=heads)
        writer.writeheader()
        writer.writerows(rows)
    logger._experiment = _ContinuedWriter(log_dir=logger.log_dir)
    logger._experiment.metrics_keys = heads
