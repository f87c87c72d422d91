"""Tables of classes: names, plain phrases and file values of published label sets, as JSON in ``image_sets/tables``.

``names`` are the data set's own, in class order; ``said`` has the phrase of a name that is no plain word.  ``maps`` has, for each kind of
file, the file values of the classes in order ("0-10 12" is eleven classes and one more), those of a background that comes before them, and
those that are not scored.  A set whose classes are groups of another's, ``of`` which it is, has ``groups`` instead: the names of its
classes in order, each with the names of its parts; it has their values, and says their phrases.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from data_modules.image_sets import LabelSet
from data_modules.labels.masks import ValueMap


@dataclass(frozen=True)
class Table:
    """One label set as its JSON has it.

    Attributes:
        labels: classes and plain phrases.
        maps: kind of file -> which class each of its values stands for.
        entry: the JSON itself, for what only one set has.
    """

    labels: LabelSet
    maps: dict[str, ValueMap]
    entry: dict[str, Any]


@cache
def read_tables(name: str) -> dict[str, Table]:
    """The label sets of ``tables/<name>.json`` by name."""
    text = files("data_modules.image_sets").joinpath("tables", f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Table] = {}
    for key, entry in json.loads(text).items():
        found[key] = _grouped(entry, parts=found[entry["of"]]) if "of" in entry else _table(entry)
    return found


def _table(entry: dict[str, Any]) -> Table:
    names = tuple(entry["names"])
    said = entry.get("said", {})
    assert set(said) <= set(names)
    labels = LabelSet(names, prompts=tuple((said.get(name, name),) for name in names), background=entry.get("background"))
    return Table(labels, maps={kind: _value_map(row, classes=len(names)) for kind, row in entry.get("maps", {}).items()}, entry=entry)


def _grouped(entry: dict[str, Any], *, parts: Table) -> Table:
    """A table whose classes are groups of another's, each of which is in one."""
    groups: dict[str, list[str]] = entry["groups"]
    pairs = [(name, index) for index, members in enumerate(groups.values()) for name in members]
    group_of = dict(pairs)
    assert len(group_of) == len(pairs) == len(parts.labels.names)
    said = dict(zip(parts.labels.names, parts.labels.prompts, strict=True))
    prompts = tuple(tuple(phrase for name in members for phrase in said[name]) for members in groups.values())
    order = [group_of[name] for name in parts.labels.names]
    labels = LabelSet(tuple(groups), prompts=prompts, background=None)
    return Table(labels, maps={kind: one.grouped(order) for kind, one in parts.maps.items()}, entry=entry)


def _value_map(row: dict[str, str], *, classes: int) -> ValueMap:
    background = _numbers(row.get("background", ""))
    first = int(bool(background))
    values = _numbers(row["values"])
    assert len(values) + first == classes
    pairs = {**dict.fromkeys(background, 0), **{value: first + rank for rank, value in enumerate(values)}}
    return ValueMap(pairs, ignored=_numbers(row.get("ignored", "")))


def _numbers(words: str) -> list[int]:
    """``"0-2 5"`` as 0, 1, 2, 5."""
    ends = [word.partition("-") for word in words.split()]
    return [number for start, _, end in ends for number in range(int(start), int(end or start) + 1)]
