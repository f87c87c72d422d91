"""Label sets of published data sets as JSON files in ``image_sets/tables``: class names, phrases
and file values.

``names`` are the data set's class names in order; ``phrases`` gives a phrase, or a list of some,
for names that are not plain words.  ``maps`` has, for each kind of file, the file values of the
classes in order ("0-10 12" for twelve classes), the values of a background that precedes them, and
the values that are not scored.  A label set of coarser classes has ``groups_of``, the name of the
finer label set, and ``groups``: its class names in order, each with the finer classes in it, whose
values and phrases it takes over.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from gestalt.data_modules.image_sets import LabelSet, select_label_sets
from gestalt.data_modules.labels.masks import ValueMap


class Table(NamedTuple):
    """One label set of a JSON file.

    Attributes:
        labels: classes and phrases.
        maps: kind of file -> map from file values to classes.
        entry: the JSON itself, for further keys.
    """

    labels: LabelSet
    maps: dict[str, ValueMap]
    entry: dict[str, Any]


@cache
def read_tables(name: str) -> dict[str, Table]:
    """Return the label sets of ``tables/<name>.json`` by name."""
    text = (
        files("gestalt.data_modules.image_sets")
        .joinpath("tables", f"{name}.json")
        .read_text(encoding="utf-8")
    )
    tables: dict[str, Table] = {}
    for key, entry in json.loads(text).items():
        if "groups_of" in entry:
            tables[key] = _grouped(entry, parts=tables[entry["groups_of"]])
            continue
        names = tuple(entry["names"])
        phrases = entry.get("phrases", {})
        assert set(phrases) <= set(names)
        said = [phrases.get(name, name) for name in names]
        prompts = tuple(tuple(each) if isinstance(each, list) else (each,) for each in said)
        maps = {
            kind: _value_map(row, classes=len(names)) for kind, row in entry.get("maps", {}).items()
        }
        tables[key] = Table(LabelSet(names, prompts, entry.get("background")), maps, entry)
    return tables


def select_tables(
    name: str, label_sets: list[str] | None, *, kind: str
) -> tuple[dict[str, LabelSet], dict[str, ValueMap]]:
    """Return the named label sets, or all, that can be read from a kind of file; and their maps
    from its values to classes.

    Raises:
        ValueError: unknown label set.
    """
    tables = {key: table for key, table in read_tables(name).items() if kind in table.maps}
    labels = select_label_sets({key: table.labels for key, table in tables.items()}, label_sets)
    return labels, {key: tables[key].maps[kind] for key in labels}


def _grouped(entry: dict[str, Any], *, parts: Table) -> Table:
    """Make a table whose classes are groups of another table's classes, each in exactly one
    group.
    """
    groups: dict[str, list[str]] = entry["groups"]
    pairs = [(name, index) for index, members in enumerate(groups.values()) for name in members]
    group_of = dict(pairs)
    assert len(group_of) == len(pairs) == len(parts.labels.names)
    phrases = dict(zip(parts.labels.names, parts.labels.prompts, strict=True))
    prompts = tuple(
        tuple(phrase for name in members for phrase in phrases[name]) for members in groups.values()
    )
    order = [group_of[name] for name in parts.labels.names]
    labels = LabelSet(tuple(groups), prompts=prompts, background=None)
    return Table(
        labels,
        maps={kind: values.grouped(order) for kind, values in parts.maps.items()},
        entry=entry,
    )


def _value_map(row: dict[str, str], *, classes: int) -> ValueMap:
    background = _numbers(row.get("background", ""))
    first = int(bool(background))
    values = _numbers(row["values"])
    assert len(values) + first == classes
    pairs = {
        **dict.fromkeys(background, 0),
        **{value: first + rank for rank, value in enumerate(values)},
    }
    return ValueMap(pairs, ignored=_numbers(row.get("ignored", "")), count=classes)


def _numbers(words: str) -> list[int]:
    """Parse ``"0-2 5"`` as 0, 1, 2, 5."""
    ends = [word.partition("-") for word in words.split()]
    return [number for start, _, end in ends for number in range(int(start), int(end or start) + 1)]
