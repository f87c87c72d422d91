"""YAML as JSON's types, without surprises: words stay words, and no key is given twice."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from gestalt.support.strange_files import Strange, read_whole
from gestalt.support.typed import ConfigError

MAX_BYTES = 2**22
"""Largest file that is read; a benchmark of the most classes with 20 phrases each has 2 MB."""

MAX_PIECES = 150_000
"""Most words of a file as JSON, which aliases may multiply; a configuration has a thousand, a
benchmark of the most classes with 20 phrases each 135,000.
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
    """Read YAML as JSON's types; with ``words`` all but null and whole numbers are text.

    Raises:
        ValueError: not YAML, or another type; one line.
    """
    try:
        content = (_Words if words else _Values)(text).get_single_data()
        pieces = list(islice(json.JSONEncoder().iterencode(content), MAX_PIECES))
        if len(pieces) == MAX_PIECES:
            raise ValueError("too many values, with YAML aliases written out")
        return json.loads("".join(pieces))
    except Exception as error:  # PyYAML passes on those of its constructors
        raise ValueError(" ".join(str(error).split())) from error


def read_keys(path: Path, *, words: bool = False) -> dict[str, Any]:
    """Read the keys of a YAML file; with ``words`` all but null and whole numbers are text.

    Raises:
        ConfigError: it cannot be read, or holds something else.
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
