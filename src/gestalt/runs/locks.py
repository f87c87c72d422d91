"""Locks between processes, which the file system gives up with the process that holds them."""

import fcntl
import sys
from pathlib import Path
from typing import IO

from gestalt.config.schema import ConfigError


def hold(file: Path, *, busy: str, wait: bool = False) -> IO[str]:
    """Hold a file while the returned one is open; its folder is made if missing.

    Args:
        file: the lock.
        busy: what to say where another process has it.
        wait: say so, and wait; else refuse.

    Raises:
        ConfigError: another process has it, and ``wait`` is False.
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
        fcntl.lockf(lock, fcntl.LOCK_EX)
    return lock
