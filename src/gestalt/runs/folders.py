"""Run folders: ``lightning_logs/<experiment>/<scale>/version_<n>``, claimed by one process."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gestalt.config.folders import LOGS
from gestalt.config.schema import Experiment
from gestalt.models.names import number_of
from gestalt.support.process import first_rank
from gestalt.support.typed import ConfigError


def new_version(config: Experiment) -> Path | None:
    """Make the next free version folder on rank 0; None on other ranks.  Runs that start at once
    get a folder each.
    """
    if not first_rank():
        return None
    parent = LOGS / config.name / config.scale
    parent.mkdir(parents=True, exist_ok=True)
    return _claim(parent, "version_{}", Path.mkdir)


@contextmanager
def new_evaluation(folder: Path, kind: str = "evaluations") -> Iterator[Path]:
    """Claim the next free ``<kind>/<n>.json`` of a run, as an empty file; if the block ends before
    anything is written there, as on a full disk, remove it and its folder of arrays.
    """
    parent = folder / kind
    parent.mkdir(exist_ok=True)
    path = _claim(parent, "{}.json", partial(Path.touch, exist_ok=False))
    try:
        yield path
    finally:
        if not (path.is_file() and path.stat().st_size):
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def check_writable(folder: Path, option: str = "--output DIR") -> None:
    """Make a folder and write a temporary file in it.

    Raises:
        ConfigError: the system refuses; the message says why.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with {option}"
        ) from error


def _claim(parent: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Make the path with the first free number in ``name``; the file system decides between two
    processes.
    """
    number = 1 + max(map(number_of, parent.iterdir()), default=-1)
    while True:
        path = parent / name.format(number)
        try:
            make(path)
            return path
        except FileExistsError:
            number += 1
