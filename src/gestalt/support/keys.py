"""Define keys of the configuration: default, meaning and allowed values of each key, side by side
in the schema.
"""

import copy
import dataclasses
import operator
import re
import sys
from collections.abc import Collection, Iterator
from enum import Flag, auto
from functools import partial
from typing import Any, NoReturn

from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

Keys = dict[str, Any]
"""Key of a configuration -> value, nested or flat."""

WITHIN = {
    "above": operator.gt,
    "at_least": operator.ge,
    "below": operator.lt,
    "at_most": operator.le,
}
"""Bounds of a number: attribute of :class:`Key` -> comparison that must hold."""


class Reader(Flag):
    """Kinds of work that read a key.  A key that has no effect for a kind of work is refused."""

    NONE = 0
    TRAINING = auto()
    """Training or pretraining; nothing else reads such a key."""
    EXTERNAL = auto()
    """The scoring of an external model."""
    LABEL_MAPS = auto()
    """The scoring of label maps in files."""
    DEBIASING = auto()
    """The choice of the images for ``evaluation.debias``, where a model has no training data."""


MAX_INTEGER = 2**63 - 1
"""Maximum integer of a key, the largest that torch and NumPy support."""


@dataclasses.dataclass(frozen=True)
class Key:
    """The meaning and the allowed values of a key.

    Attributes:
        meaning: sentences for ``docs/configuration.md``; they say what null means.
        kind: the unit of a number, or what a text names: pixels, steps, path.
        above: lower bound, excluded; of a list of numbers, every bound holds for each.
        at_least: lower bound, included.
        below: upper bound, excluded.
        at_most: upper bound, included.
        also: a number accepted besides those within bounds.
        choices: the accepted words, where the type is not a ``Literal``: a tuple, or a registry
            that installed packages add to.
        pattern: regular expression that the whole value matches.
        form: the pattern in words.
        hashed: False if two runs may differ in it and still be the same run, see
            ``config/schema.py``.
        read_by: the work that reads the key, in addition to the work that reads the whole group,
            which is the attribute ``read_by`` of the group's class.
    """

    meaning: str
    kind: str = ""
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    also: float | None = None
    choices: Collection[str] = ()
    pattern: str = ""
    form: str = ""
    hashed: bool = True
    read_by: Reader = Reader.NONE

    @property
    def limits(self) -> dict[str, float]:
        """The bounds that are set, by name."""
        return {name: getattr(self, name) for name in WITHIN if getattr(self, name) is not None}

    @property
    def bounds(self) -> str:
        """The bounds in words, such as ``above 0 and at most 1``; empty without any."""
        words = " and ".join(
            f"{name.replace('_', ' ')} {limit}" for name, limit in self.limits.items()
        )
        return words if self.also is None else f"{words}, or {self.also}"

    def holds(self, number: float) -> bool:
        """Return True if a number is finite and within the bounds, and an integer fits into 63
        bits.
        """
        largest = MAX_INTEGER if isinstance(number, int) else sys.float_info.max
        within = all(WITHIN[name](number, limit) for name, limit in self.limits.items())
        return (within and abs(number) <= largest) or number == self.also

    def complaint(self, value: Any) -> str:
        """Return the error message for a value; empty if the value is allowed."""
        if self.choices and value not in self.choices:
            return nearest(str(value), self.choices)
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            return f"choose {self.form}"
        numbers = value if isinstance(value, list | tuple) else [value]
        if self.bounds and not all(map(self.holds, numbers)):
            each = "a number that is" if numbers == [value] else "numbers that are each"
            capped = (
                isinstance(item, int) and self.holds(min(item, MAX_INTEGER)) for item in numbers
            )
            return f"choose {each} {self.bounds}{', and at most 2^63 - 1' if all(capped) else ''}"
        return ""


def key(default: Any, meaning: str, **details: Any) -> Any:
    """Return a dataclass field with a default and a :class:`Key`, whose other attributes are
    ``details``; a list or dict is copied.
    """
    metadata = {"key": Key(meaning, **details)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=partial(copy.copy, default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def words_read_by(reader: Reader, group: Any, prefix: str = "") -> tuple[str, ...]:
    """Return how the ``key=value`` words begin that a reader reads: with the name of a group and a
    point if it reads the whole group, else with the name of a key and ``=``.
    """
    if reader in getattr(group, "read_by", Reader.NONE):
        return (prefix,)
    found: list[str] = []
    for item in dataclasses.fields(group):
        if "key" not in item.metadata:
            found += words_read_by(reader, item.type, f"{prefix}{item.name}.")
        elif reader in item.metadata["key"].read_by:
            found.append(f"{prefix}{item.name}=")
    return tuple(found)


positive = partial(key, above=0)
"""Create a field whose number is above 0."""

unhashed = partial(key, hashed=False)
"""Create a field that the hash of a configuration leaves out."""

path_key = partial(key, None, kind="path")
"""Create a field that names a file or a folder; null by default."""


def refuse(name: str, value: Any, why: str) -> NoReturn:
    """Raise a ConfigError that names the key, its value, and why it is refused."""
    raise ConfigError(f"{name}={value}: {why}")


Complaints = Iterator[tuple[str, str]]
"""Pairs of a key and the reason why its value is refused."""


def refuse_first(group: object, complaints: Complaints, prefix: str = "") -> None:
    """Raise a ConfigError for the first complaint about a group of keys.  The message has the value
    of the key.  ``prefix`` is the name of the group and a dot.
    """
    for name, why in complaints:
        refuse(f"{prefix}{name}", operator.attrgetter(name)(group), why)


def check_values(group: Any, prefix: str = "") -> None:
    """Check each value of a group, and of nested groups, against its :class:`Key`.

    Raises:
        ConfigError: names the key, its value and what to choose.
    """
    for item in dataclasses.fields(group) if dataclasses.is_dataclass(group) else ():
        name, value = prefix + item.name, getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            check_values(value, f"{name}.")
        elif isinstance(value, list) and any(map(dataclasses.is_dataclass, value)):
            for number, part in enumerate(value):
                check_values(part, f"{name}[{number}].")
        elif value is not None:
            complaint = item.metadata["key"].complaint(value)
            if complaint:
                refuse(name, list(value) if isinstance(value, tuple) else value, complaint)


def flatten(tree: Keys, prefix: str = "", *, keep_empty: bool = False) -> Keys:
    """Turn ``{"a": {"b": 1}}`` into ``{"a.b": 1}``; an empty mapping below is left out, or kept as
    a value with ``keep_empty``.
    """
    flat: Keys = {}
    for key, value in tree.items():
        inner = isinstance(value, dict) and (value or not keep_empty)
        flat |= (
            flatten(value, f"{prefix}{key}.", keep_empty=keep_empty)
            if inner
            else {prefix + key: value}
        )
    return flat


def unflatten(flat: Keys) -> Keys:
    """Turn ``{"a.b": 1}`` into ``{"a": {"b": 1}}``."""
    tree: Keys = {}
    for key, value in flat.items():
        head, code, path = key.partition("python:")  # a name of code has points
        *parents, name = head.split(".")
        name += code + path
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree
