"""Tables of named rows as YAML, beside the Python file that reads them."""

from pathlib import Path
from typing import Any

import yaml


def table_beside(file: str) -> Any:
    """Return the content of the YAML file beside a Python file, with tuples in place of lists."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast
    return _frozen(yaml.load(Path(file).with_suffix(".yaml").read_text(encoding="utf-8"), loader))


def _frozen(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _frozen(value) for key, value in tree.items()}
    return tuple(map(_frozen, tree)) if isinstance(tree, list) else tree
