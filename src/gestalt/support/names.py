"""Suggestions for a name that is not known, names of folders, and words that are paths."""

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
"""Other words of the field for keys and their values -> the words here."""


def suggestion(name: str, known: Iterable[str], count: int = 1) -> str:
    """Return ``did you mean 'x'?``, or an empty string where no known name is near.

    First come at most three names whose last part is that of ``name`` or its synonym, of the same
    group if there are any; else the ``count`` names of the nearest spelling, of the same group if
    there are any.
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
    """Return the ten nearest of known names, joined, and ``...`` where there are more."""
    near = difflib.get_close_matches(name, known, n=10, cutoff=0.0)
    return ", ".join(near if len(near) == len(known) else [*near, "..."])


def file_name(name: str) -> str:
    """Return a name for a folder: letters, digits and ``-._`` are kept, anything else becomes an
    underscore; so do the dots of a name that has nothing else.
    """
    kept = re.sub(r"[^\w.-]", "_", name)
    return kept if kept.strip(".") else kept.replace(".", "_")


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
