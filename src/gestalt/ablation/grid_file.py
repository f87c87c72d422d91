"""The keys of a grid's file, and the words of its cells."""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import yaml

from gestalt.config.identity import flatten
from gestalt.config.keys import Keys
from gestalt.config.schema import ConfigError
from gestalt.results.design import Paper
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.names import nearest
from gestalt.support.typed import convert
from gestalt.support.yaml_values import read_keys, read_values

Values = dict[str, list[Any]]
"""Key of the configuration -> values to try."""

MOST_RUNS = 10_000
"""Most runs of a grid; each configuration is checked before the first starts."""


@dataclass
class GridFile:
    """The keys of a grid's file, see ``docs/ablations.md``; those without a default are needed."""

    base: str
    vary: Values = field(default_factory=dict)
    cells: dict[str, Keys | None] = field(default_factory=dict)
    choose: Values = field(default_factory=dict)
    scales: dict[str, Keys] = field(default_factory=dict)
    evaluate_at: dict[str, list[int]] = field(default_factory=dict)
    equal: Literal["flop"] | None = None
    against: str = ""
    paper: Paper | None = None


def read_grid_file(file: Path, scale: str) -> GridFile:
    """Read a grid's file; one list of test sizes, for any scale, becomes that of ``scale``.

    Raises:
        ConfigError: not YAML, a key that is unknown or missing, or a value of a wrong type.
    """
    raw = read_keys(file)
    if "base" not in raw:
        raise ConfigError("no base; a grid needs base: EXPERIMENT and vary: or cells:")
    if isinstance(raw.get("evaluate_at"), list):
        raw["evaluate_at"] = {scale: raw["evaluate_at"]}
    grid: GridFile = convert(raw, GridFile, origin=file.name)
    for key, values in grid.choose.items():
        _check_different(f"choose: {key}", values)
    for scale, sizes in grid.evaluate_at.items():
        _check_different(f"evaluate_at: {scale}", sizes)
    if bool(grid.vary) == bool(grid.cells):
        raise ConfigError(
            "vary and cells: choose one of them; vary makes every combination, cells are named one "
            "by one"
        )
    return grid


def slug(name: str) -> str:
    """Return a cell's name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.=-]+", "_", name).strip("_")


def word(key: str, value: Any) -> str:
    """Return ``key=value`` such that the command line reads the same value."""
    bare = (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z_][\w./:-]*", value)
        and yaml.safe_load(value) == value
    )
    return f"{key}={value if bare else json.dumps(value)}"


def cells_of(grid: GridFile) -> dict[str, Keys]:
    """Return name -> overrides, from ``vary`` or ``cells``.

    Raises:
        ConfigError: a value without an alternative, or names that would share a log.
    """
    cells = {name: flatten(values or {}, keep_empty=True) for name, values in grid.cells.items()}
    for key, values in grid.vary.items():
        _check_different(f"vary: {key}", change_texts(values, without_secrets))
    check_number(map(len, grid.vary.values()))
    if grid.vary:
        for combination in itertools.product(*grid.vary.values()):
            cell = dict(zip(grid.vary, combination, strict=True))
            # a word alone, any other value after its key
            labels = [
                value if isinstance(value, str) else f"{key.rpartition('.')[2]}={json.dumps(value)}"
                for key, value in change_texts(cell, without_secrets).items()
            ]
            cells[", ".join(labels)] = cell
    slugs: dict[str, str] = {}
    for name in cells:
        if not slug(name):
            raise ConfigError(f"cells: {name!r} has no letter or digit; rename it")
        if slugs.setdefault(slug(name), name) != name:
            raise ConfigError(
                f"cells {slugs[slug(name)]!r} and {name!r} would share the file {slug(name)}; "
                "rename one"
            )
    return cells


def check_number(factors: Iterable[int]) -> None:
    """Check that a grid has no absurd number of runs, the product of these factors.

    Raises:
        ConfigError: it has.
    """
    runs = prod(factors)
    if runs > MOST_RUNS:
        raise ConfigError(f"{runs:,} runs, at most {MOST_RUNS:,}; list fewer values or seeds")


def _check_different(name: str, values: list[Any]) -> None:
    if not values or len({json.dumps(value) for value in values}) < len(values):
        raise ConfigError(f"{name} is {values}; list different values, such as [cls, avg, max]")


def read_choices(words: tuple[str, ...]) -> Values:
    """Parse the ``KEY=a,b,c`` words of ``--choose``.

    Raises:
        ConfigError: a word has another form.
    """
    lists = {}
    for text in words:
        key, _, values = text.partition("=")
        try:
            lists[key] = read_values(f"[{values}]")
        except ValueError as error:
            raise ConfigError(f"--choose {text}: the values cannot be read: {error}") from error
        if not key or not lists[key]:
            raise ConfigError(
                f"--choose {text}: expected KEY=a,b,c, such as optimizer.learning_rate=1e-3,2e-3"
            )
        _check_different(f"--choose {key}", lists[key])
    return lists


def check_paper(paper: Paper, cells: dict[str, Any]) -> None:
    """Check that each of the paper's numbers is for a cell and a metric that the file names.

    Raises:
        ConfigError: names the number.
    """
    if not (paper.source and paper.scale):
        raise ConfigError("paper: needs source and scale")
    for cell, values in paper.cells.items():
        if cell not in cells:
            raise ConfigError(f"paper: {cell!r} is not a cell; {nearest(cell, list(cells))}")
        for metric in values:
            if metric not in paper.metrics:
                raise ConfigError(
                    f"paper: {cell}: {metric!r} is not among paper.metrics; "
                    f"{nearest(metric, list(paper.metrics))}"
                )
