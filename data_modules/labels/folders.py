"""Find the folders of published sets under a root, and check their files."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from glob import escape
from pathlib import Path

from gestalt.support.files import Strange, read_whole
from gestalt.support.typed import NotThere


def find_folder(
    root: str | None, *, image_set: str, places: Sequence[str], holds: Sequence[str], get: str
) -> Path:
    """Return the first folder under the root that contains the required files.

    Args:
        root: the configured folder: the parent of one or more sets, or the folder of the set.
        image_set: name of the set, for messages.
        places: candidate folders under the root, the usual one first; the root itself is the last
            candidate.
        holds: required files or folders; of names joined by ``|`` at least one.
        get: instruction for the message, such as what to unpack.

    Raises:
        ValueError: no root, or no candidate has the required files.
    """
    if root is None:
        raise NotThere(
            f"image set {image_set} needs its folder; choose the one that contains {places[0]}"
        )
    candidates = [Path(root, place) for place in (*places, "")]
    for place in candidates:
        if all(any((place / name).exists() for name in group.split("|")) for group in holds):
            return place
    required = " and ".join(group.replace("|", " or ") for group in holds)
    raise NotThere(
        f"{image_set}: no {required} in any of {', '.join(map(str, candidates))}; {get}, or see "
        "`gestalt data get`"
    )


def list_files(folder: Path, suffix: str) -> list[str]:
    """List the stems of the files with this suffix, sorted, without hidden files.

    Raises:
        ValueError: no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    stems = sorted(path.name.removesuffix(suffix) for path in folder.glob(f"[!.]*{escape(suffix)}"))
    if not stems:
        raise ValueError(f"{folder} contains no *{suffix}")
    return stems


def read_list(path: Path) -> list[str]:
    """Read a list of names, one per line.

    Raises:
        ValueError: no such file, one that is not UTF-8 or has no names, or a duplicate name.
    """
    if not os.path.isfile(path):  # False for a name that is too long, too
        raise ValueError(f"no file {path}")
    try:
        lines = read_whole(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, Strange) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    names = list(filter(None, map(str.strip, lines)))
    if not names:
        raise ValueError(f"{path} lists no name; write one a line")
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{path} lists {name} twice")
    return names


def check_files(paths: Iterable[Path], required_by: object) -> None:
    """Check that all files exist.  Each folder is listed once, so that tens of thousands of files
    take little time.

    Raises:
        ValueError: names the first missing file and what requires it.
    """
    names_in = cache(
        lambda folder: {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    )
    for path in paths:
        if path.name not in names_in(path.parent):
            raise ValueError(f"no file {path}, which {required_by} requires; copy it again")
