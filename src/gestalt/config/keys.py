"""Keys of the configuration: default, meaning and allowed values of each, side by side in the schema."""

import copy
import dataclasses
import math
import re
from collections.abc import Collection, Iterator
from functools import partial
from types import UnionType
from typing import Any, get_args, get_origin

from gestalt.support.names import nearest


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
        choices: the accepted words, where the type is not a ``Literal``: a tuple, or a registry that installed packages add to.
        pattern: regular expression that the whole value matches.
        form: the pattern in words.
        hashed: False if two runs may differ in it and still be the same run, see ``config/identity.py``.
        only_for: the only init that a key of ``pretraining`` concerns.
        later: True for a key added after the first records (format 2); under its default a run behaves as those without it.
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
    only_for: str = ""
    later: bool = False

    @property
    def bounds(self) -> str:
        """The bounds in words, such as ``above 0 and at most 1``; empty without any."""
        limits = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        words = " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)
        return words if self.also is None else f"{words}, or {self.also}"

    def holds(self, number: float) -> bool:
        """Return True if a number is finite and within the bounds."""
        within = (
            (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )
        return (within and math.isfinite(number)) or number == self.also

    def complaint(self, value: Any) -> str:
        """Return the error for a value, or an empty string."""
        if self.choices and value not in self.choices:
            return nearest(str(value), self.choices)
        if self.pattern and not re.fullmatch(self.pattern, str(value)):
            return f"choose {self.form}"
        numbers = value if isinstance(value, list | tuple) else [value]
        if self.bounds and not all(map(self.holds, numbers)):
            return f"choose {'a number that is' if numbers == [value] else 'numbers that are each'} {self.bounds}"
        return ""


def key(default: Any, meaning: str, **details: Any) -> Any:
    """Return a dataclass field with a default and a :class:`Key`, whose other attributes are ``details``; a list or dict is copied."""
    metadata = {"key": Key(meaning, **details)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=partial(copy.copy, default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def fields_below(group: Any, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field[Any]]]:
    """Yield every key of a dataclass and of the groups in it, as ``group.key`` with its field."""
    for item in dataclasses.fields(group):
        if dataclasses.is_dataclass(item.type):
            yield from fields_below(item.type, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def default_of(item: dataclasses.Field[Any]) -> Any:
    """Return a field's default."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def literals(kind: Any) -> list[str]:
    """Return the words of a ``Literal`` type, null aside; empty for any other type."""
    return [word for option in (kind, *get_args(kind)) for word in get_args(option) if isinstance(word, str)]


WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word or a path",
    list: "a list, such as [a, b]",
    tuple: "two numbers, such as [a, b]",
}


def in_words(kind: Any) -> str:
    """Return what a type of the schema takes, for messages."""
    options = [option for option in get_args(kind) if option is not type(None)] if isinstance(kind, UnionType) else [kind]
    words = [WORDS.get(get_origin(option) or option, "a mapping, such as {a: b}") for option in options]
    return " or ".join([*words, *(["null"] if isinstance(kind, UnionType) and type(None) in get_args(kind) else [])])
