"""Read and write files safely, and hash them.

Only regular files up to a maximum size are opened. JSON is checked against a schema. Files are
written atomically.
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
"""Maximum size of a text file.  A results file with 1,000 classes has 0.2 MB."""

MAX_LISTING = 2**31
"""Maximum size of a JSON file that lists the images of a data set.  The panoptic file of COCO has
0.3 GB.
"""

TEXTS = (".json", ".txt", ".jinja")


class Strange(ValueError):
    """A file is refused.  The message states the reason, and does not name the file."""


class TooLarge(Strange):
    """A file is larger than its reader allows."""


def check_regular(path: Path | str, most: int | None = None) -> None:
    """Check that a path, after following links, is a regular file.  Reading a pipe would wait for
    ever, and a device has no end.

    Args:
        path: the file.
        most: maximum number of bytes; None for a file that is not read as a whole.

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
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        Strange: another kind of file, or a larger one.
        OSError: it cannot be read.
    """
    check_regular(path, most)
    return path.read_bytes()


def check_folder(folder: Path) -> None:
    """Check the files of a folder that another library will open.

    Raises:
        ValueError: a file is a pipe, a device, or a text that is too large; names the file.
    """
    for path in sorted(folder.rglob("*")):
        try:
            if path.exists() and not path.is_dir():
                check_regular(path, most=MAX_BYTES if path.suffix in TEXTS else None)
        except Strange as error:
            raise ValueError(f"{path}: {error}") from error


ABANDONED = 7 * 24 * 3600
"""Seconds after the last write after which a partial file counts as abandoned on every host."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces ``path`` when the block ends without
    an error.

    The folder is created if it does not exist. A reader sees the old or the new file, never a part,
    and several writers do not disturb each other. After an error, the temporary file is removed and
    ``path`` is unchanged. Temporary files of killed processes are removed by the next writer in the
    folder.

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
        # The error of torch.save hides that of the system.
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
    """Yield a new temporary folder beside ``path``, which the block may fill and move away.

    What remains of the folder when the block ends is removed. Folders of killed processes are
    removed by the next writer.

    Raises:
        OSError: the system's error.  It names ``path`` if the original error names no file, as for
            a full disk, or names the temporary folder.
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
    error.

    If ``folder`` does not exist, it appears complete. If it exists, the files are added to it, and
    no file is replaced.

    Raises:
        OSError: see ``partial_folder``; or a file of the same name exists.
    """
    # inside a folder that exists, since its parent may be read-only or another disk
    with partial_folder(folder / "new" if folder.is_dir() else folder) as partial:
        yield partial
        _move(partial, folder)


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder.  If the target is a folder with files, the files of the source are
    added to it.
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
    """Lock a file that the block creates, with ``<name>.lock`` beside it.

    If another process holds the lock, wait for it. On a file system without locks nothing is
    locked.

    Args:
        path: the file.  Its folder is created if it does not exist.
        waiting: text to print before waiting; empty for nothing.
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
    """Write a file atomically, replacing an existing one.

    Text is written as UTF-8. Bytes of file names that are not UTF-8 are escaped.
    """
    data = content if isinstance(content, bytes) else content.encode(errors="backslashreplace")
    with replacing(path) as partial:
        partial.write_bytes(data)


def partial_beside(path: Path) -> Path:
    """Return this process's temporary path beside ``path``, ``<name>.<host>.<pid>.partial``.

    Temporary files of this host's ended processes are removed, and also files of other hosts for
    the same ``path`` that are older than ``ABANDONED``.
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
        ValueError: the folder is not empty, or is a file.
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
    """Return the folder for caches: ``$GESTALT_CACHE``, else ``gestalt`` in ``$XDG_CACHE_HOME`` or
    ``~/.cache``.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gestalt"
    return Path(os.environ.get("GESTALT_CACHE") or cache)


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk of a folder, which may not exist yet."""
    place = next(
        parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists()
    )
    return shutil.disk_usage(place).free


Fields = dict[str, Any]
"""An object of JSON."""


def read_json(path: Path, schema: str, *, most: int = MAX_BYTES) -> Fields:
    """Read a JSON file, and check it against a schema of ``schemas.json``.

    Args:
        path: the file.
        schema: name of the schema.
        most: maximum number of bytes.

    Raises:
        ValueError: the file is not a regular file, is too large, or is not JSON in UTF-8; or a key
            is repeated, a number is not finite, or a value does not fit the schema.  The message
            names the key, and not the file.
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
    """Read a JSON file that lists the images of a data set, of at most ``MAX_LISTING`` bytes.

    The content is not checked, because the checks of ``read_json`` would double the time.

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
    """Build a JSON object, and check that keys differ and numbers are finite."""
    content: Fields = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{key} is given twice")
        content[key] = value
        values = [value]
        for number in values:
            if isinstance(number, list):
                values += number  # nested lists are checked too
            elif isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{key} holds {number}, which is not a finite number")
    return content


def short_digest(text: str) -> str:
    """Return the first 16 hexadecimal digits of a text's SHA-256.  The text may be a file name with
    undecodable bytes.
    """
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


UID = re.compile(rb"[0-9a-fA-F]{32}")
"""The form of DataComp's ``uid``."""


def value_hash(value: Any) -> int:
    """Return a 64-bit hash of a value that identifies an image-text pair, such as a URL.

    A ``uid`` in hexadecimal digits is hashed with ``uid_hash``, other values with BLAKE2b. None and
    an empty text give 0.
    """
    content = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    if value is None or not content:
        return 0
    if len(content) == 32 and UID.fullmatch(content):
        return int(uid_hash(int(content[:16], 16), int(content[16:], 16)))
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def uid_hash(first: Any, second: Any) -> Any:
    """Return a 64-bit hash of the two halves of a ``uid``.

    Args:
        first: the first 64 bits, an integer or an array of uint64.
        second: the last 64 bits, of the same type.
    """
    mixed = first * 0x9E3779B97F4A7C15 + second + 0xD1B54A32D192ED03  # random, without a pattern
    return mixed & (2**64 - 1)
