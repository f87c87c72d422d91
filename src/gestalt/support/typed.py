"""Read YAML files strictly: words stay words, keys must not be repeated, each key must exist in its
dataclass, and each value must have the type of its key.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml

from gestalt.support.files import Strange, read_whole
from gestalt.support.names import nearest


class ConfigError(ValueError):
    """A configuration cannot run.  The message is one line: the key, its value, the reason and what
    to choose.
    """

    def __init__(self, message: str) -> None:
        # torch raises the error of a loading process again with that process's traceback.
        of_a_worker = "Original Traceback" in message
        super().__init__(message if of_a_worker else " ".join(message.splitlines()))


class NotThere(ConfigError):
    """Files are not on this machine yet.  The message says where they were expected, and how to get
    them.
    """


def options_of(kind: Any) -> tuple[Any, ...]:
    """Return the types of a union, with that of null last; for another type, only this type."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def literals(kind: Any) -> list[str]:
    """Return the words of a ``Literal`` type, without null; empty for any other type."""
    return [word for word in get_args(options_of(kind)[0]) if isinstance(word, str)]


WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word or a path",
    list: "a list, such as [a, b]",
    tuple: "two numbers, such as [a, b]",
    type(None): "null",
}


def in_words(kind: Any) -> str:
    """Return the types of a key in words, for messages."""
    return " or ".join(
        WORDS.get(get_origin(option) or option, "a mapping, such as {a: b}")
        for option in options_of(kind)
    )


def fields_below(group: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Yield every key of a dataclass and of the groups in it, such as ``image.init``, with its
    field.
    """
    for item in fields(group):
        if is_dataclass(item.type):
            yield from fields_below(item.type, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def convert(value: Any, kind: Any, *, origin: str, key: str = "", root: Any = None) -> Any:
    """Convert a value to the type of its key.  Keys of a group that are not given have their
    defaults.

    Args:
        value: value from YAML; a mapping for a group of keys.
        kind: the type, or the class of the group.
        origin: file or word with the value, for messages.
        key: name of the key; empty for the whole configuration.
        root: class whose keys a message may suggest; None for ``kind``.

    Raises:
        ConfigError: a key is unknown, or a value has another type.  The message names key, value
            and type.
    """
    options = options_of(kind)
    first = options[0]
    family, inner = get_origin(first), get_args(first)
    if first is Any or type(value) in options or value in inner:
        return value
    if is_dataclass(first) and isinstance(value, dict):
        return _group(value, first, origin, key, root=root or first)
    if is_dataclass(kind):
        raise ConfigError(
            f"{key}: {value!r} given for a group of keys (in {origin}); choose one of its keys, "
            f"such as {key}.{fields(kind)[0].name}"
        )
    if family is list and isinstance(value, list):
        return [
            convert(item, inner[0], key=f"{key}[{number}]", origin=origin)
            for number, item in enumerate(value)
        ]
    if family is dict and isinstance(value, dict):
        return {
            name: convert(item, inner[1], key=f"{key}.{name}", origin=origin)
            for name, item in value.items()
        }
    if family is tuple and isinstance(value, list):
        if len(value) == len(inner) and all(type(number) in (int, float) for number in value):
            with suppress(OverflowError):
                return tuple(float(number) for number in value)
        raise ConfigError(f"{key}: {value} is not {len(inner)} numbers in a list (in {origin})")
    if isinstance(value, str | int | float):
        for option in options:
            with suppress(TypeError, ValueError, OverflowError):
                return _scalar(value, option)
    if family is list and not isinstance(value, dict | None):
        raise ConfigError(f"{key}: {value} is not a list; write [{value}] (in {origin})")
    if family in (list, dict):
        raise ConfigError(f"{key}: must be {in_words(kind)} (in {origin})")
    words = literals(kind)
    must = nearest(str(value), words) if words else f"must be {in_words(kind)}"
    raise ConfigError(f"{key}={'null' if value is None else value}: {must} (in {origin})")


def _group(values: dict[str, Any], group: Any, origin: str, key: str, root: Any) -> Any:
    """Build a group of keys from their values."""
    kinds = {item.name: item.type for item in fields(group)}
    called = f"the {group.__name__.removesuffix('File').lower()}"  # GridFile: the grid
    built = {}
    for name, value in values.items():
        inner = f"{key}.{name}".removeprefix(".")
        if name not in kinds:
            below = inner.rpartition("].")[2]  # a list begins at its own root
            raise ConfigError(
                f"{inner}: {key or called} has no key {name!r} (in {origin}); "
                f"{nearest(below, sorted(kinds), known=kinds | dict(fields_below(root)))}"
            )
        built[name] = convert(value, kinds[name], origin=origin, key=inner, root=root)
    for item in fields(group):
        if item.name not in built and item.default is item.default_factory is MISSING:
            raise ConfigError(f"{f'{key}.{item.name}'.lstrip('.')} is missing (in {origin})")
    return group(**built)


def _scalar(value: str | float, kind: Any) -> Any:
    """Convert a word or a number to a type; a TypeError or a ValueError says that it does not
    fit.
    """
    if kind is str:
        return str(value)
    if kind is float and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, str):
        return int(value)
    if kind is bool and value in (0, 1):
        return bool(value)
    raise TypeError


MAX_BYTES = 2**22
"""Maximum size of a file.  A benchmark with the maximum number of classes and 20 phrases for each
has 2 MB.
"""

MAX_PIECES = 150_000
"""Maximum number of words of a file as JSON, which aliases may multiply.  A configuration has a
thousand; a benchmark with the maximum number of classes and 20 phrases for each has 135,000.
"""


class _Values(yaml.SafeLoader):
    """YAML without numbers of base 60 and without dates, and with numbers such as 1e-3."""

    def construct_yaml_int(self, node: Any) -> Any:
        """Return a number, or the text of one with colons, such as ``12:00:00:00`` of
        ``trainer.max_time``.
        """
        return node.value if ":" in node.value else super().construct_yaml_int(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping whose keys are words as they are written, such as ``no`` and ``0``, each
        given once.
        """
        names = set()
        for key, _ in node.value:
            if str(key.value) in names:
                raise ValueError(f"{key.value} is given twice")
            names.add(str(key.value))
            if key.tag != "tag:yaml.org,2002:merge":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


_Values.add_constructor("tag:yaml.org,2002:int", _Values.construct_yaml_int)
_Values.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)
_Values.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*[eE][-+]?\d+$"), list("-+0123456789")
)


class _Words(_Values):
    """YAML whose only numbers are whole and decimal: ``on``, ``010`` and ``1e3`` are words."""


_Words.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in pairs if tag.endswith((":null", ":merge"))]
    for first, pairs in _Values.yaml_implicit_resolvers.items()
}
_Words.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"(0|[1-9]\d*)$"), list("0123456789")
)


def read_values(text: str, words: bool = False) -> Any:
    """Read YAML as the types of JSON.  With ``words``, everything except null and integers is text.

    Raises:
        ValueError: the text is not YAML, or has another type.  The message is one line.
    """
    try:
        loader = _Words if words else _Values
        content = loader(text).get_single_data()
        pieces = list(islice(json.JSONEncoder().iterencode(content), MAX_PIECES))
        if len(pieces) == MAX_PIECES:
            raise ValueError("too many values, with YAML aliases written out")
        return json.loads("".join(pieces))
    except Exception as error:  # PyYAML's constructors raise many types
        raise ValueError(" ".join(str(error).split())) from error


def read_keys(path: Path, *, words: bool = False) -> dict[str, Any]:
    """Read the keys of a YAML file.  With ``words``, everything except null and integers is text.

    Raises:
        ConfigError: the file cannot be read, or does not contain keys.
    """
    try:
        content = read_values(read_whole(path, most=MAX_BYTES).decode(), words) or {}
    except (OSError, UnicodeDecodeError, Strange) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: holds {'a list' if isinstance(content, list) else 'one value'}; a "
            "configuration is keys with values, such as image: {init: random}"
        )
    return content
