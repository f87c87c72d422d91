"""A grid is a base experiment and what varies: ``experiments/ablations/<name>.yaml``, checked whole before anything runs.

To add one: a file there with ``base:`` and either ``vary:`` (every combination) or ``cells:`` (name -> overrides).  Nothing else changes.
"""

import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gestalt.config.check_launch import check_training
from gestalt.config.identity import config_hash
from gestalt.config.loading import EXPERIMENTS, load
from gestalt.config.schema import ConfigError, Experiment
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.ledger.ablation import Design, Paper
from gestalt.studies.grid_checks import KEYS, read_cells, read_choose, read_paper, read_scales, read_sizes
from gestalt.support.names import nearest

TUNE = "evaluation.split=tune"
"""What a run that only chooses a value is scored on."""


@dataclass(frozen=True)
class Cell:
    """One setting of a grid.

    Attributes:
        name: what tables and logs call it.
        values: key of the configuration -> value.
    """

    name: str
    values: dict[str, Any]

    def words(self) -> list[str]:
        """The overrides as ``key=value``."""
        return [word(key, value) for key, value in self.values.items()]

    def words_of(self, keys: tuple[str, ...]) -> list[str]:
        """The values of these keys, as text."""
        return [word(key, self.values[key]).partition("=")[2] for key in keys]


@dataclass(frozen=True)
class Grid:
    """A grid at a scale.

    Attributes:
        name: the file's stem.
        base: the experiment that every cell starts from.
        scale: how big.
        cells: in the file's order.
        varied: the keys of ``vary``; empty for named cells.
        choose: key -> values that each cell tries on the tuning split before its reported runs.
        common: overrides of every cell: the file's for this scale, then the command line's.
        evaluate_at: test sizes in pixels that a trained cell is scored at besides its own.
        against: the cell that differences are to.
        metric: what cells are chosen and drawn by.
        paper: the paper's numbers for the same cells.
    """

    name: str
    base: str
    scale: str
    cells: tuple[Cell, ...]
    varied: tuple[str, ...] = ()
    choose: dict[str, list[Any]] = field(default_factory=dict)
    common: tuple[str, ...] = ()
    evaluate_at: tuple[int, ...] = ()
    against: str = ""
    metric: str = ""
    paper: Paper | None = None

    def words(self, cell: Cell, *, chosen: tuple[str, ...] = (), seed: int) -> tuple[str, ...]:
        """All overrides of a run."""
        return (*self.common, *cell.words(), *chosen, f"seed={seed}")

    def design(self) -> Design:
        """Return what the tables and the page of the grid show of it."""
        cells = {cell.name: tuple(cell.words_of(self.varied)) if self.varied else (cell.name,) for cell in self.cells}
        return Design(
            *(self.name, self.base, self.scale, self.common, self.varied or ("cell",), cells, self.against, self.metric),
            sizes=self.evaluate_at,
            paper=self.paper,
        )

    def choices(self) -> list[tuple[str, ...]]:
        """Every combination of the values to choose from, as overrides; none where nothing is chosen."""
        if not self.choose:
            return []
        return [
            tuple(word(key, value) for key, value in zip(self.choose, values, strict=True))
            for values in itertools.product(*self.choose.values())
        ]


def word(key: str, value: Any) -> str:
    """``key=value`` such that the command line reads the same value."""
    bare = isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./:-]*", value) and yaml.safe_load(value) == value
    return f"{key}={value if bare else json.dumps(value)}"


def read_grid(name: str, *, scale: str, overrides: tuple[str, ...] = (), choose: tuple[str, ...] = (), folder: Path = EXPERIMENTS) -> Grid:
    """Read a grid and load every cell's configuration.

    Args:
        name: the stem of a YAML in ``folder / "ablations"``.
        scale: the stem of a YAML in ``folder / "scales"``.
        overrides: ``key=value`` words for every cell.
        choose: ``KEY=a,b,c`` words in place of the file's ``choose``.
        folder: where the files lie.

    Raises:
        ConfigError: the file, a cell or an override is wrong; one line that says where and what would be right.
    """
    raw = _read(folder / "ablations", name)
    try:
        cells = tuple(Cell(key, values) for key, values in read_cells(raw).items())
        grid = Grid(
            name=name,
            base=str(raw.get("base")),
            scale=scale,
            cells=cells,
            varied=tuple(raw.get("vary") or ()),
            choose=read_choose(raw, words=choose),
            common=(*(word(*pair) for pair in read_scales(raw, scale=scale, folder=folder).items()), *overrides),
            evaluate_at=read_sizes(raw, scale=scale),
            against=str(raw.get("against") or ""),
            paper=read_paper(raw, cells=[cell.name for cell in cells]),
        )
        _check_overrides(grid, overrides=overrides)
        return _checked(grid, folder=folder)
    except ConfigError as error:
        raise ConfigError(f"grid {name}: {error}") from error


def _read(folder: Path, name: str) -> dict[str, Any]:
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"GRID={name}: no {folder.name}/{name}.yaml; {nearest(name, known)}")
    try:
        raw = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"grid {name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or "base" not in raw:
        raise ConfigError(f"grid {name}: no base; a grid is base: EXPERIMENT and vary: or cells:")
    for key in raw:
        if key not in KEYS:
            raise ConfigError(f"grid {name}: unknown key {key!r}; {nearest(str(key), list(KEYS))}")
    return {str(key): value for key, value in raw.items()}


def _check_overrides(grid: Grid, *, overrides: tuple[str, ...]) -> None:
    """Refuse words that would undo what the grid varies."""
    varied = {key for cell in grid.cells for key in cell.values}
    for one in overrides:
        key = one.partition("=")[0]
        if key in ("seed", "resume"):
            raise ConfigError(f"{one}: the grid sets it; choose --seeds N, and call again to resume")
        if key in varied:
            raise ConfigError(f"{one}: {key} is what the cells differ in; choose another key")
        if key in grid.choose or (grid.choose and key == "evaluation.split"):
            raise ConfigError(f"{one}: the grid chooses by it; leave it out, or leave choose out")
    for key in grid.choose:
        if key in varied:
            raise ConfigError(f"choose: {key} is what the cells differ in; choose another key")


def _checked(grid: Grid, *, folder: Path) -> Grid:
    """The grid with ``against`` and ``metric`` settled, once every configuration has been loaded."""
    base = _load(grid, (*grid.common, "seed=0"), folder=folder, what="base")
    hashes: dict[str, str] = {}
    for cell in grid.cells:
        config = _load(grid, grid.words(cell, seed=0), folder=folder, what=f"cell {cell.name}")
        for chosen in grid.choices():
            _load(grid, (*grid.words(cell, chosen=chosen, seed=0), TUNE), folder=folder, what=f"cell {cell.name}")
        twin = hashes.setdefault(config_hash(config), cell.name)
        if twin != cell.name:
            raise ConfigError(f"cells {twin} and {cell.name} are the same run; keep one")
    names = [cell.name for cell in grid.cells]
    if grid.against and grid.against not in names:
        raise ConfigError(f"against: {grid.against!r} is no cell; {nearest(grid.against, names)}")
    against = grid.against or hashes.get(config_hash(base), names[0])
    return Grid(**{**grid.__dict__, "against": against, "metric": _metric(base)})


def _load(grid: Grid, words: tuple[str, ...], *, folder: Path, what: str) -> Experiment:
    try:
        config = load(grid.base, scale=grid.scale, overrides=list(words), folder=folder)
        check_training(config)
        return config
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error


def _metric(config: Experiment) -> str:
    """The mIoU of the first benchmark that has one."""
    for row in (BENCHMARKS[name] for name in config.evaluation.benchmarks):
        if "segmentation" in row.measures:
            return f"{row.name}/miou"
    raise ConfigError(f"evaluation.benchmarks={config.evaluation.benchmarks}: none measures segmentation, by which cells are compared")
