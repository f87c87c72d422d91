"""Untrusted files: only regular ones are opened, and read whole only up to a bound."""

import os
import stat
from pathlib import Path

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
