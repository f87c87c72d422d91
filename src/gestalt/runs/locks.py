"""Locks between processes.  The file system frees a lock when its process ends."""

import errno
import fcntl
from pathlib import Path
from typing import IO

from gestalt.support.typed import ConfigError


class Held(ConfigError):
    """Another process holds a lock."""


def hold(file: Path, busy: str) -> IO[str]:
    """Lock a file for as long as the returned file is open.  The folder is created if it does not
    exist.

    Raises:
        Held: another process holds it; the message is ``busy``.
        ConfigError: the file system has no locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        # Forked loading processes would inherit a lock of flock.
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
