"""Locks between processes; the file system frees them when their process ends."""

import fcntl
import sys
from pathlib import Path
from typing import IO

from gestalt.config.schema import ConfigError


def hold(file: Path, *, busy: str, wait: bool = False) -> IO[str]:
    """Lock a file while the returned one is open; make its folder if missing.

    Args:
        file: the lock.
        busy: the message if another process holds it.
        wait: print the message and wait, instead of refusing.

    Raises:
        ConfigError: another process holds it, and ``wait`` is False.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: forked loader workers would inherit it
    except OSError as error:
        if not wait:
            lock.close()
            raise ConfigError(busy) from error
        print(busy, file=sys.stderr, flush=True)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX)
        except BaseException:  # a signal handler ends the wait
            lock.close()
            raise
    return lock
