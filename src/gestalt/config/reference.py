"""``docs/configuration.md``, generated from the schema: ``python -m gestalt.config.reference > docs/configuration.md``."""

import dataclasses
import inspect
import json
from typing import Any, get_args, get_origin

from gestalt.config.keys import Key, literals
from gestalt.config.schema import Experiment
from gestalt.support.plugins import Registry

TITLE = """\
# Configuration

Every key of an experiment: its default, what it may be, and what it means. The defaults are the paper's run.
This page is generated from `src/gestalt/config/schema*.py`; change those, then run
`python -m gestalt.config.reference > docs/configuration.md`.

Four layers are merged, and the first that sets a key wins: the command line, the experiment (`experiments/NAME.yaml`), the scale
(`experiments/scales/NAME.yaml`), these defaults. On the command line a key is `group.key=value`:

```
gestalt train clippy_dino_max --scale demo image.aggregation=avg "evaluation.benchmarks=[scenes]" evaluation.limit=null
```

An unknown key, a wrong type, a value that is not allowed, or keys that contradict each other stop the run before anything is loaded.

A key marked * does not change a result, so it may differ when a run is resumed. All others tell one run from another, but of paths to
data, manifests and weights only the last part counts, and keys of `pretraining` count only for an init that is `made`.
"""
HEAD = ("| Key | Default | Values | Meaning |", "|---|---|---|---|")


def reference() -> str:
    """Return the schema as a Markdown page: a section for each group, a table row for each key."""
    groups = {item.name: item.type for item in dataclasses.fields(Experiment) if dataclasses.is_dataclass(item.type)}
    sections = [TITLE, "## Top level\n\n" + _table(Experiment)]
    for name, group in groups.items():
        sections.append(_section(name, group))
        parts = {item.name: get_args(item.type) for item in dataclasses.fields(group)}
        sections += [_section(f"{name}.{key}[]", kinds[0]) for key, kinds in parts.items() if kinds and dataclasses.is_dataclass(kinds[0])]
    return "\n".join(sections)


def _section(name: str, group: Any) -> str:
    return f"## `{name}`\n\n{inspect.getdoc(group)}\n\n{_table(group, f'{name}.')}"


def _table(group: Any, prefix: str = "") -> str:
    items = [item for item in dataclasses.fields(group) if "key" in item.metadata]
    rows = [(f"`{prefix}{item.name}`", item, item.metadata["key"]) for item in items]
    cells = [(name + ("" if key.hashed else " *"), _default(item), _values(item.type, key), _meaning(key)) for name, item, key in rows]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]
    return "\n".join((*HEAD, *lines)) + "\n"


def _meaning(key: Key) -> str:
    return f"{key.meaning} Only for init `{key.only_for}`." if key.only_for else key.meaning


def _default(item: dataclasses.Field[Any]) -> str:
    """Return the default as YAML has it, or ``required``."""
    if item.default_factory is not dataclasses.MISSING:
        return f"`{json.dumps(item.default_factory())}`"
    if item.default is dataclasses.MISSING:
        return "required"
    return f"`{item.default}`" if isinstance(item.default, str) and item.default else f"`{json.dumps(item.default)}`"


def _values(kind: Any, key: Key) -> str:
    """Return what a key may be, in words: its type, bounds, unit, and null if it is allowed."""
    added = isinstance(key.choices, Registry)
    choices = list(key.choices.built_in if isinstance(key.choices, Registry) else key.choices) or literals(kind)
    if choices:
        words = ", ".join(f"`{choice}`" for choice in choices) + (", or a name that an installed package adds" if added else "")
    elif kind is bool:
        words = "`true`, `false`"
    elif key.form or (key.kind and _type(kind) == "text"):
        words = key.form or key.kind
    else:
        words = " ".join(word for word in (_type(kind), key.bounds, f"({key.kind})") if word and word != "()")
    return words + (", or `null`" if type(None) in get_args(kind) else "")


def _type(kind: Any) -> str:
    """Return a type in words."""
    kinds = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) is tuple:
        return f"{len(kinds)} numbers, each"
    if get_origin(kind) is list:
        return "list of " + ("parts" if dataclasses.is_dataclass(kinds[0]) else "names")
    if get_origin(kind) is dict:
        return "mapping"
    return {int: "integer", float: "number", str: "text"}[kinds[0] if kinds else kind]


if __name__ == "__main__":
    print(reference(), end="")
