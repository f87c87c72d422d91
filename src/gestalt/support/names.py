"""Suggest names for an unknown name, make folder names, and recognise words that are paths."""

import difflib
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

SYNONYMS = {
    "average": "avg",
    "epochs": "max_epochs",
    "gpus": "devices",
    "lr": "learning_rate",
    "mean": "avg",
    "num_workers": "workers",
    "pooling": "aggregation",
    "wd": "weight_decay",
}
"""Common synonym of a key or a value -> name in this package."""


def suggestion(name: str, known: Iterable[str], count: int = 1) -> str:
    """Return ``did you mean 'x'?``; empty if no known name is similar.

    Up to three names with the same last part as ``name`` or its synonym are suggested. If there are
    none, the ``count`` names with the most similar spelling are suggested. Names of the same group
    are preferred.
    """
    known = list(known)
    last = _last_part(name)
    group = name.removesuffix(last)
    alike = _ending(known, last) or _ending(known, SYNONYMS.get(last, last))
    of_group = [word for word in alike if word.startswith(group)]
    members = [word.removeprefix(group) for word in known if word.startswith(group)]
    near = partial(difflib.get_close_matches, n=count, cutoff=0.5)
    spelt = [group + word for word in near(last, members)] or near(name, known)
    close = (of_group or alike)[:3] or spelt
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def _ending(known: list[str], last: str) -> list[str]:
    return [word for word in known if _last_part(word) == last]


def _last_part(name: str) -> str:
    return re.split("[./]", name)[-1]


def nearest(name: str, choices: Iterable[str], known: Iterable[str] = ()) -> str:
    """Return ``did you mean 'x'? choose one of a, b, c``, without the question where no name of
    ``known``, by default the choices, is near.
    """
    choices = list(choices)
    near = suggestion(name, list(known) or choices)
    return f"{near} choose one of {', '.join(choices)}".lstrip()


def few(name: str, known: list[str]) -> str:
    """Return the ten most similar known names, joined, and ``...`` if there are more."""
    near = difflib.get_close_matches(name, known, n=10, cutoff=0.0)
    return ", ".join(near if len(near) == len(known) else [*near, "..."])


def file_name(name: str) -> str:
    """Return a valid folder name.

    Letters, digits and ``-._`` are kept, and other characters become underscores. In a name of dots
    only, the dots become underscores too.
    """
    kept = re.sub(r"[^\w.-]", "_", name)
    return kept if kept.strip(".") else kept.replace(".", "_")


def is_path(name: str) -> bool:
    """Return True if a word for an experiment, a scale or a grid is the path of a file instead of
    the name of a shipped file.
    """
    return "/" in name or name.endswith((".yaml", ".yml"))


def stem(name: str) -> str:
    """Return the name of an experiment, a scale or a grid in the folders of runs.  For a path, this
    is the stem of the file.
    """
    return Path(name).stem if is_path(name) else name
