"""The page of configuration keys, generated from the schema: ``python docs/configuration_page.py >
docs/configuration.md``.
"""

import dataclasses
import inspect
import json
from typing import Any

from gestalt.config.schema import Experiment
from gestalt.data_modules.keys import MixturePart
from gestalt.support.keys import Key
from gestalt.support.plugins import OpenRegistry, Registry
from gestalt.support.typed import in_words, literals, options_of

TITLE = """\
# Configuration

This page lists every key of an experiment with its default, its values and its meaning. The
defaults are the paper's run, [as far as it is known](training.md#which-defaults-are-the-papers).
The page is generated from `keys.py` of each package and `src/gestalt/config/schema.py`. To change
it, change those files and run `python docs/configuration_page.py > docs/configuration.md`.

Four layers are merged, and the first that sets a key wins: the command line, the experiment
(`experiments/NAME.yaml`), the scale (`experiments/scales/NAME.yaml`), these defaults. On the
command line a key is `group.key=value`:

```
gestalt train clippy_dino_max --scale demo image.aggregation=avg "evaluation.benchmarks=[scenes]"
```

An unknown key, a wrong type, a value that is not allowed, or keys that contradict each other stop
the run before anything is loaded.

A key marked * does not change a result, so it may differ when a run is resumed. The hash of a
configuration covers all other keys that differ from their defaults. Only the last part of a path to
data, manifests or weights counts.
"""


def reference() -> str:
    """Return the schema as a Markdown page: a section for each group, a table row for each key."""
    groups = {
        item.name: item.type
        for item in dataclasses.fields(Experiment)
        if dataclasses.is_dataclass(item.type)
    }
    sections = [TITLE, "## Top level\n\n" + _table(Experiment)]
    for name, group in (groups | {"data.mixture[]": MixturePart}).items():
        sections.append(f"## `{name}`\n\n{inspect.getdoc(group)}\n\n{_table(group, f'{name}.')}")
    return "\n".join(sections)


def _table(group: Any, prefix: str = "") -> str:
    lines = ["| Key | Default | Values | Meaning |", "|---|---|---|---|"]
    for item in dataclasses.fields(group):
        if "key" in item.metadata:
            key = item.metadata["key"]
            name = f"`{prefix}{item.name}`" + ("" if key.hashed else " *")
            factory = item.default_factory
            default = item.default if factory is dataclasses.MISSING else factory()
            default = default if isinstance(default, str) and default else json.dumps(default)
            cells = (name, f"`{default}`", _values(item.type, key), key.meaning)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _values(kind: Any, key: Key) -> str:
    """Return what a key may be, in words: its type, bounds, unit, and null if it is allowed."""
    options = options_of(kind)
    choices = list(getattr(key.choices, "built_in", key.choices)) or literals(kind)
    if choices:
        words = ", ".join(f"`{choice}`" for choice in choices) + (
            ", or a name that an installed package adds"
            if isinstance(key.choices, Registry)
            else ""
        )
        if isinstance(key.choices, OpenRegistry):
            words += ", or `python:package.module:Name`"
    elif key.form or (key.kind and str in options):
        words = key.form or key.kind
    else:
        words = " ".join(
            filter(None, (in_words(options[0]), key.bounds, f"({key.kind})" if key.kind else ""))
        )
    return words + (", or `null`" if type(None) in options else "")


if __name__ == "__main__":
    print(reference(), end="")
