"""Folders of published sets: where they lie under a root that may hold several, and whether every file is there."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def find_folder(root: str | None, *, image_set: str, places: Sequence[str], holds: Sequence[str], get: str) -> Path:
    """The first of the root's places that holds all that is needed.

    Args:
        root: the folder that was asked for; one that holds several sets, or is one of the places itself.
        image_set: for people.
        places: folders under the root, the usual one first; the root itself is the last.
        holds: files or folders in it, at least one of each group that ``|`` joins.
        get: what to unpack there.

    Raises:
        ValueError: no root, or none of the places holds it.
    """
    if root is None:
        raise ValueError(f"image set {image_set} needs its folder, found none; name the one that holds {places[0]}")
    tried = [Path(root, place) for place in (*places, "")]
    for place in tried:
        if all(any((place / name).exists() for name in group.split("|")) for group in holds):
            return place
    words = " and ".join(group.replace("|", " or ") for group in holds)
    raise ValueError(f"{image_set}: no {words} in any of {', '.join(map(str, tried))}; {get}")


def list_files(folder: Path, *, suffix: str) -> list[str]:
    """The stems of the folder's files with this suffix, sorted; names that begin with a dot are left out.

    Raises:
        ValueError: no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    stems = sorted(path.name.removesuffix(suffix) for path in folder.iterdir() if path.name.endswith(suffix) and path.name[0] != ".")
    if not stems:
        raise ValueError(f"{folder} holds no *{suffix}")
    return stems


def read_list(path: Path) -> list[str]:
    """The names in a list file, one a line, in its order.

    Raises:
        ValueError: no such file, or a name that is there twice.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    names = list(filter(None, (line.strip() for line in path.read_text(encoding="utf-8").splitlines())))
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ValueError(f"{path} names {twice} twice")
    return names


def check_files(paths: Iterable[Path], *, said_by: object) -> None:
    """Stop at the first file that is not there.  Folders are listed once each, so that tens of thousands of files cost little.

    Raises:
        ValueError: names the file, and what says that it should be there.
    """
    listed: dict[Path, set[str]] = {}
    for path in paths:
        if path.parent not in listed:
            listed[path.parent] = {entry.name for entry in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in listed[path.parent]:
            raise ValueError(f"there is no file {path}, which {said_by} asks for")
