"""Readers of the parts of a grid file; each checks its part."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from gestalt.config.identity import flatten
from gestalt.config.schema import ConfigError
from gestalt.ledger.design import Paper
from gestalt.support.names import nearest

KEYS = ("base", "vary", "cells", "equal", "choose", "scales", "evaluate_at", "against", "paper")
PAPER_KEYS = ("source", "scale", "metrics", "cells")


def slug(name: str) -> str:
    """Return a cell's name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", name).strip("_")


def word(key: str, value: Any) -> str:
    """Return ``key=value`` such that the command line reads the same value."""
    bare = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./:-]*", value) and yaml.safe_load(value) == value
    return f"{key}={value if bare else json.dumps(value)}"


def read_cells(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return name -> overrides, from ``vary`` or ``cells``.

    Raises:
        ConfigError: both or neither, or not mappings and lists.
    """
    if ("vary" in raw) == ("cells" in raw):
        raise ConfigError("vary and cells: choose one of them; vary makes every combination, cells are named one by one")
    cells = _combinations(raw["vary"]) if "vary" in raw else _named(raw["cells"])
    slugs: dict[str, str] = {}
    for name in cells:
        if slugs.setdefault(slug(name), name) != name:
            raise ConfigError(f"cells {slugs[slug(name)]!r} and {name!r} would share the file {slug(name)}; rename one")
    return cells


def _combinations(vary: Any) -> dict[str, dict[str, Any]]:
    lists = _lists("vary", vary, example="image.aggregation: [cls, avg, max]")
    cells = {}
    for values in itertools.product(*lists.values()):
        cell = dict(zip(lists, values, strict=True))
        cells[", ".join(_label(key, value) for key, value in cell.items())] = cell
    return cells


def _label(key: str, value: Any) -> str:
    """Return a value as part of a cell's name: a word alone, any other value after its key."""
    return value if isinstance(value, str) else f"{key.rpartition('.')[2]}={json.dumps(value)}"


def _named(cells: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(cells, dict) or not cells:
        raise ConfigError("cells: expected name -> overrides, such as {text frozen: {text.frozen: true}}")
    for name, values in cells.items():
        if not isinstance(name, str) or not slug(name):
            raise ConfigError(f"cells: {name!r} is not a name with a letter or a digit; put it in quotes, or choose another")
        if not isinstance(values, dict | None):
            raise ConfigError(f"cells: {name} is {values!r}; expected overrides, such as {{image.frozen: true}}, or {{}} for the base")
    return {name: flatten(values or {}, keep_empty=True) for name, values in cells.items()}


def _lists(key_of_file: str, value: Any, *, example: str) -> dict[str, list[Any]]:
    """Check that a value maps keys to lists that are not empty and have no value twice."""
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{key_of_file}: expected key -> list of values, such as {{{example}}}")
    for key, values in value.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{key_of_file}: {key} is {values!r}; expected a list of values, such as {{{example}}}")
        if len({json.dumps(value) for value in values}) < len(values):
            raise ConfigError(f"{key_of_file}: {key} names a value twice; keep one")
    return value


def read_choose(raw: dict[str, Any], *, words: tuple[str, ...]) -> dict[str, list[Any]]:
    """Return key -> values, from ``KEY=a,b,c`` words if there are any, else from the file."""
    example = "optimizer.learning_rate: [1.0e-3, 2.0e-3]"
    if not words:
        return _lists("choose", raw["choose"], example=example) if "choose" in raw else {}
    lists: dict[str, Any] = {}
    for text in words:
        key, sign, values = text.partition("=")
        if not sign or not key or not values:
            raise ConfigError(f"--choose {text}: expected KEY=a,b,c, such as optimizer.learning_rate=1e-3,2e-3")
        lists[key] = OmegaConf.to_container(OmegaConf.from_dotlist([f"values=[{values}]"]))["values"]  # type: ignore[index,call-overload]
    return _lists("--choose", lists, example=example)


def read_scales(raw: dict[str, Any], *, scale: str, folder: Path) -> dict[str, Any]:
    """Return the file's overrides for this scale."""
    scales = raw.get("scales") or {}
    known = sorted({scale, *(path.stem for path in (folder / "scales").glob("*.yaml"))})
    if not isinstance(scales, dict):
        raise ConfigError(f"scales: {scales!r}; expected scale -> overrides, such as {{demo: {{image.train_size: 128}}}}")
    for name in scales:
        if name not in known:
            raise ConfigError(f"scales: no scale {name!r}; {nearest(str(name), known)}")
    values = scales.get(scale) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"scales: {scale} is {values!r}; expected overrides, such as {{image.train_size: 128}}")
    return flatten(values)


def read_sizes(raw: dict[str, Any], *, scale: str) -> tuple[int, ...]:
    """Return the test sizes in pixels, from one list, or from a list for each scale."""
    sizes = raw.get("evaluate_at", [])
    if isinstance(sizes, dict):
        sizes = sizes.get(scale, [])
    valid = isinstance(sizes, list) and all(isinstance(size, int) and size > 0 for size in sizes)
    if not valid or len(set(sizes)) < len(sizes):
        raise ConfigError(
            f"evaluate_at: {sizes!r}; expected a list of different sizes in pixels, such as [48, 64, 96], or a list for each scale"
        )
    return tuple(sizes)


def read_equal(raw: dict[str, Any]) -> str:
    """Return the cost that all cells share: ``flop``, or empty if each cell trains for the steps of its configuration."""
    equal = raw.get("equal", "")
    if equal not in ("", "flop"):
        raise ConfigError(f"equal: {equal!r}; expected flop, for cells whose training costs the same FLOP, or leave it out")
    return str(equal)


def read_paper(raw: dict[str, Any], *, cells: list[str]) -> Paper | None:
    """Return the paper's numbers; each must be for a cell and a metric that the file names."""
    paper = raw.get("paper")
    if paper is None:
        return None
    if not isinstance(paper, dict) or set(paper) != set(PAPER_KEYS):
        raise ConfigError(f"paper: needs the keys {', '.join(PAPER_KEYS)}, no others")
    metrics, numbers = paper["metrics"], paper["cells"]
    for cell, values in numbers.items():
        if cell not in cells:
            raise ConfigError(f"paper: {cell!r} is not a cell; {nearest(str(cell), cells)}")
        for metric in values:
            if metric not in metrics:
                raise ConfigError(f"paper: {cell}: {metric!r} is not among paper.metrics; {nearest(str(metric), list(metrics))}")
    return Paper(str(paper["source"]), str(paper["scale"]), metrics=metrics, cells=numbers)
