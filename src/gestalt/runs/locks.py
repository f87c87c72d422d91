"""Locks between processes; the file system frees them when their process ends."""

import errno
import fcntl
from pathlib import Path
from typing import IO

from gestalt.support.typed import ConfigError


class Held(ConfigError):
    """Another process holds a lock."""


def hold(file: Path, busy: str) -> IO[str]:
    """Lock a file while the returned one is open; make its folder if missing.

    Raises:
        Held: another process holds it; the message is ``busy``.
        ConfigError: its file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        # not flock: forked loader workers would inherit it
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise Held(busy) from error
        raise ConfigError(
            f"{file}: its file system has no locks, which keep two processes out of one folder "
            f"({error.strerror}); start in a folder of another one, or mount it with locks"
        ) from error
    return lock
