"""Files: regular ones alone are opened, up to a bound; JSON is checked by a schema; what is written
is written whole or not at all; hashes.
"""

import errno
import fcntl
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

MAX_BYTES = 2**26
"""Largest text that is read whole; a record of 1,000 classes has 0.2 MB."""

MAX_LISTING = 2**31
"""Largest JSON that lists the images of a data set; COCO's panoptic one has 0.3 GB."""

TEXTS = (".json", ".txt", ".jinja")


class Strange(ValueError):
    """A file that is not opened; the message names the reason, and not the file."""


class TooLarge(Strange):
    """A file beyond the bound of its reader."""


def check_regular(path: Path | str, most: int | None = None) -> None:
    """Check that a file is a regular one, links followed: a pipe would wait for ever, and a device
    has no end.

    Args:
        path: the file.
        most: largest number of bytes; None for a file that is not read whole.

    Raises:
        Strange: another kind of file, or a larger one.
        OSError: it cannot be found.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Strange("not a regular file")
    if most is not None and status.st_size > most:
        raise TooLarge(f"{status.st_size:,} bytes, at most {most:,} are read")


def read_whole(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file of at most so many bytes.

    Raises:
        Strange: another kind of file, or a larger one.
        OSError: it cannot be read.
    """
    check_regular(path, most)
    return path.read_bytes()


def check_folder(folder: Path) -> None:
    """Check the files of a folder that another library opens by itself.

    Raises:
        ValueError: a pipe, a device, or a text that is too large; names the file.
    """
    for path in sorted(folder.rglob("*")):
        try:
            if path.exists() and not path.is_dir():
                check_regular(path, most=MAX_BYTES if path.suffix in TEXTS else None)
        except Strange as error:
            raise ValueError(f"{path}: {error}") from error


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


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``, which the block fills and may move away.

    What is left of it when the block ends is removed; what a killed process leaves, by the next
    writer in the folder.

    Raises:
        OSError: the system's error, with ``path`` if it names no file, as of a full disk, or the
            temporary folder.
    """
    partial = partial_beside(path)
    try:
        partial.mkdir(parents=True)
        yield partial
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def filled_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, whose files are moved to ``folder`` when the block ends without an
    error.  A missing folder appears whole; an existing one gets the files besides its own, none of
    which is replaced.

    Raises:
        OSError: as ``partial_folder``; or a file of the same name exists.
    """
    # inside a folder that exists, since its parent may be read-only or another disk
    with partial_folder(folder / "new" if folder.is_dir() else folder) as partial:
        yield partial
        _move(partial, folder)


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder; if the target is a folder with files, those of the source are
    added.
    """
    if source.is_dir() and target.is_dir() and any(target.iterdir()):
        for path in sorted(source.iterdir()):
            _move(path, target / path.name)
    elif source.is_file() and target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    else:
        os.replace(source, target)


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold the lock of a file that the block makes, ``<name>.lock`` beside it.

    Another process that holds it is waited for.  A file system without locks is not locked.

    Args:
        path: the file; its folder is made if missing.
        waiting: what is printed before waiting; empty for nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass
        yield


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


def cache_home() -> Path:
    """Return the folder of what can be made anew: ``$GESTALT_CACHE``, else ``gestalt`` in
    ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gestalt"
    return Path(os.environ.get("GESTALT_CACHE") or cache)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that a folder, which may not exist yet, lies on."""
    place = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    return shutil.disk_usage(place).free


Fields = dict[str, Any]
"""An object of JSON."""


def read_json(path: Path, schema: str, *, most: int = MAX_BYTES) -> Fields:
    """Return the content of a JSON file that fits a schema, a name in ``schemas.json``.

    Args:
        path: the file.
        schema: its name.
        most: largest number of bytes.

    Raises:
        ValueError: another kind of file, a larger one, not JSON in UTF-8, a key that is given
            twice, a number that is not finite, or a value that does not fit; the message names the
            key, and not the file.
        OSError: it cannot be read.
    """
    from fastjsonschema import JsonSchemaValueException

    text = read_whole(path, most=most).decode()
    try:
        content = json.loads(text, object_pairs_hook=_checked)
        _validator(schema)(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except JsonSchemaValueException as error:
        found = "" if error.rule == "required" else f"; it is {repr(error.value)[:60]}"
        raise ValueError(f"{error.message.removeprefix('data.')}{found}") from error
    return content


def read_listing(path: Path) -> Any:
    """Return the content of a JSON file that lists the images of a data set, up to ``MAX_LISTING``
    bytes, as it is: with the checks of ``read_json`` it would take twice as long.

    Raises:
        ValueError: another kind of file, a larger one, or not JSON.
        OSError: it cannot be read.
    """
    return json.loads(read_whole(path, most=MAX_LISTING))


@cache
def _validator(schema: str) -> Any:
    from fastjsonschema import compile

    text = Path(__file__).with_name("schemas.json").read_text(encoding="utf-8")
    return compile({**json.loads(text), "allOf": [{"$ref": f"#/definitions/{schema}"}]})


def _checked(pairs: list[tuple[str, Any]]) -> Fields:
    """Return an object of JSON whose keys differ and whose numbers are finite."""
    content: Fields = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{key} is given twice")
        content[key] = value
        values = [value]
        for number in values:
            if isinstance(number, list):
                values += number  # nested lists are looked through as well
            elif isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{key} holds {number}, which is not a finite number")
    return content


def short_digest(text: str) -> str:
    """Return the first sixteen hexadecimal digits of a text's SHA-256; names of files may have
    undecodable bytes.
    """
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


UID = re.compile(rb"[0-9a-fA-F]{32}")
"""The form of DataComp's ``uid``."""


def value_hash(value: Any) -> int:
    """Return a hash of 64 bits of a value that tells pairs apart, such as a URL.

    It is ``uid_hash`` for the hexadecimal digits of a ``uid``, otherwise BLAKE2b, and 0 for None
    and an empty text.
    """
    content = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    if value is None or not content:
        return 0
    if len(content) == 32 and UID.fullmatch(content):
        return int(uid_hash(int(content[:16], 16), int(content[16:], 16)))
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def uid_hash(first: Any, second: Any) -> Any:
    """Return a hash of 64 bits of the two halves of a ``uid``.

    Args:
        first: the first 64 bits, an integer or an array of uint64.
        second: the last 64 bits, of the same type.
    """
    mixed = first * 0x9E3779B97F4A7C15 + second + 0xD1B54A32D192ED03  # random, without a pattern
    return mixed & (2**64 - 1)
