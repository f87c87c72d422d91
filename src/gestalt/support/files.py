"""Files that are written whole or not at all, and their hashes."""

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED = 7 * 24 * 3600
"""Seconds after the last write from which a partial file counts as abandoned on every host."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; what is written there replaces ``path`` when the
    block ends without an error.

    The folder is made if missing.  A reader sees the old file or the new one, never a part; two
    writers do not disturb each other.  After an error the temporary file is removed and ``path`` is
    unchanged; what a killed process leaves, the next writer in the folder removes.

    Raises:
        OSError: the system's error, with ``path`` as its file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_beside(path)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        # torch.save's own error hides the system's
        refusal = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refusal, OSError):
            raise
        # none where a disk is full, two of a copy
        named = partial.name in f"{refusal.filename} {refusal.filename2}"
        if refusal.errno is None or not (named or refusal.filename is None):
            raise
        raise OSError(refusal.errno, refusal.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # a folder that became read-only; the error above says so
            partial.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, in place of one that exists; text as UTF-8, with bytes of
    file names that are not UTF-8 escaped.
    """
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    with replacing(path) as partial:
        partial.write_bytes(data)


def partial_beside(path: Path) -> Path:
    """Return this process's temporary path beside ``path``, ``<name>.<host>.<pid>.partial``.

    Those of this host's dead processes are removed, and files of other hosts for the same ``path``
    that are ``ABANDONED``.
    """
    host = platform.node() or "localhost"
    for left in path.parent.glob("*.*.*.partial"):
        place, _, process = left.stem.rpartition(".")
        if not process.isdecimal() or (place.endswith(f".{host}") and _lives(int(process))):
            continue
        with suppress(OSError):  # another process removed it, or it is another user's
            if place.endswith(f".{host}"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            elif (
                place.startswith(f"{path.name}.") and time.time() - left.stat().st_mtime > ABANDONED
            ):
                left.unlink()  # a folder stays: unlink refuses it
    return path.with_name(f"{path.name}.{host}.{os.getpid()}.partial")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def check_free(folder: Path, option: str) -> None:
    """Check that a folder is missing or empty.

    Raises:
        ValueError: it holds something, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{option}: {folder} exists and is not an empty folder; name another, or remove it"
        )


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_hash(paths: Iterable[Path], folder: Path) -> str:
    """Return the SHA-256 over the names, relative to the folder, and the contents of files, in
    order of name.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{file_hash(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder, which may not exist yet, lies on."""
    place = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    return shutil.disk_usage(place).free
