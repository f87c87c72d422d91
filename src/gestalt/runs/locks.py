"""Locks between processes; the file system frees them when their process ends."""

import fcntl
from pathlib import Path
from typing import IO

from gestalt.config.schema import ConfigError


def hold(file: Path, busy: str) -> IO[str]:
    """Lock a file while the returned one is open; make its folder if missing.

    Raises:
        ConfigError: another process holds it; the message is ``busy``.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        # not flock: forked loader workers would inherit it
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise ConfigError(busy) from error
    return lock
