"""Classes that a configuration names by their paths, and the callbacks of ``trainer.callbacks``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from gestalt.support.keys import refuse
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
        except Exception as error:  # a module of others may raise anything
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
    """Name an entry in the error of the block that makes its object.

    Raises:
        ConfigError: any error; the message quotes it.
    """
    try:
        yield
    except Exception as error:  # a class of others may raise anything
        raise ConfigError(
            f"{key}={part.class_path}: {type(error).__name__}: {error}; change {key}, or leave it "
            "out"
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
