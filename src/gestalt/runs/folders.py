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
    """Create the next free version folder on rank 0; None on other ranks.  Runs that start at the
    same time get separate folders.
    """
    if not first_rank():
        return None
    parent = LOGS / config.name / config.scale
    parent.mkdir(parents=True, exist_ok=True)
    return _claim(parent, "version_{}", Path.mkdir)


@contextmanager
def new_evaluation(folder: Path, kind: str = "evaluations") -> Iterator[Path]:
    """Claim the next free ``<kind>/<n>.json`` of a run by creating an empty file.

    If nothing has been written to it when the block ends, as on a full disk, the file and its
    folder of arrays are removed.
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
    """Create a folder, and check that a temporary file can be written to it.

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
    """Create the path with the first free number in ``name``.  Only one of several processes can
    create a path.
    """
    number = 1 + max(map(number_of, parent.iterdir()), default=-1)
    while True:
        path = parent / name.format(number)
        try:
            make(path)
            return path
        except FileExistsError:
            number += 1
