"""Suggestions for a name that is not known, names of folders, and words that are paths."""

import difflib
from collections.abc import Iterable
from pathlib import Path


def suggestion(name: str, known: Iterable[str], *, count: int = 1) -> str:
    """Return ``did you mean 'x'?`` with the ``count`` nearest known names, or an empty string where
    none is near.
    """
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'? choose one of a, b, c``, without the question where no name is
    near.
    """
    known = list(known)
    return f"{suggestion(name, known)} choose one of {', '.join(known)}".lstrip()


def few(name: str, known: list[str]) -> str:
    """Return the ten nearest of known names, joined, and ``...`` where there are more."""
    near = difflib.get_close_matches(name, known, n=10, cutoff=0.0)
    return ", ".join(near if len(near) == len(known) else [*near, "..."])


def file_name(name: str) -> str:
    """Return a name for a folder: letters, digits and ``-._`` are kept, anything else becomes an
    underscore.
    """
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)


def is_path(name: str) -> bool:
    """Return True if a word for an experiment, a scale or a grid is the path of a file, not the
    name of a shipped one.
    """
    return "/" in name or name.endswith((".yaml", ".yml"))


def stem(name: str) -> str:
    """Return the name that runs of an experiment, a scale or a grid are filed under: that of the
    file, for a path.
    """
    return Path(name).stem if is_path(name) else name
