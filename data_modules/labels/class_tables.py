"""Label sets of published data sets are JSON files in ``labels/tables``: class names, phrases and
file values.

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
from typing import NamedTuple

from gestalt.data_modules.labels.image_set import LabelSet, select_label_sets
from gestalt.data_modules.labels.masks import ValueMap
from gestalt.support.files import Fields


class Table(NamedTuple):
    """One label set of a JSON file.

    Attributes:
        labels: classes and phrases.
        maps: kind of file -> map from file values to classes.
        entry: the JSON itself, for further keys.
    """

    labels: LabelSet
    maps: dict[str, ValueMap]
    entry: Fields


@cache
def read_tables(name: str) -> dict[str, Table]:
    """Return the label sets of ``tables/<name>.json`` by name."""
    table = files(__package__).joinpath("tables", f"{name}.json")
    entries = json.loads(table.read_bytes())
    return {
        key: _table(entry, parts=entries.get(entry.get("groups_of"), entry))
        for key, entry in entries.items()
    }


def _table(entry: Fields, parts: Fields) -> Table:
    """Make a table of groups of the classes of ``parts``, each in exactly one; a class is a group
    of its own where the table has no groups.
    """
    names, phrases, groups = parts["names"], parts.get("phrases", {}), entry.get("groups")
    order = list(range(len(names)))
    if groups is not None:
        group_of = {name: number for number, group in enumerate(groups.values()) for name in group}
        order = [group_of[name] for name in names]
    prompts: list[list[str]] = [[] for _ in groups or names]
    for name, group in zip(names, order, strict=True):
        known = phrases.get(name, name)
        prompts[group] += [known] if isinstance(known, str) else known
    labels = LabelSet(tuple(groups or names), tuple(map(tuple, prompts)), entry.get("background"))
    maps = {}
    for kind, row in parts.get("maps", {}).items():
        background, values = _numbers(row.get("background", "")), _numbers(row["values"])
        pairs = dict.fromkeys(background, order[0])
        pairs |= zip(values, order[bool(background) :], strict=True)
        ignored = _numbers(row.get("ignored", ""))
        maps[kind] = ValueMap(pairs, ignored=ignored, count=len(prompts))
    return Table(labels, maps, entry)


def select_tables(
    name: str, label_sets: list[str] | None, kind: str
) -> tuple[dict[str, LabelSet], dict[str, ValueMap]]:
    """Return the named label sets, or all, that can be read from a kind of file; and their maps
    from its values to classes.

    Raises:
        ValueError: unknown label set.
    """
    tables = {key: table for key, table in read_tables(name).items() if kind in table.maps}
    labels = select_label_sets({key: table.labels for key, table in tables.items()}, label_sets)
    return labels, {key: tables[key].maps[kind] for key in labels}


def _numbers(words: str) -> list[int]:
    """Parse ``"0-2 5"`` as 0, 1, 2, 5."""
    ends = [word.partition("-") for word in words.split()]
    return [number for start, _, end in ends for number in range(int(start), int(end or start) + 1)]
