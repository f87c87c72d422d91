"""Read and check grids: a base experiment and the keys that vary, from
``experiments/ablations/<name>.yaml``.  All configurations are checked before the first run.

To add a grid, write such a file with ``base:`` and with ``vary:`` (every combination) or ``cells:``
(name -> overrides); ``GridFile`` lists the keys. No code changes are needed.
"""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import yaml

from gestalt.config.check import check_training
from gestalt.config.folders import EXPERIMENTS, find_yaml
from gestalt.config.loading import load
from gestalt.config.schema import Experiment, config_hash
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.models.names import Overrides
from gestalt.results.grid import Design, Paper
from gestalt.support.addresses import change_texts, without_secrets
from gestalt.support.keys import Keys, flatten
from gestalt.support.names import is_path, nearest, stem
from gestalt.support.typed import ConfigError, convert, read_keys, read_values

Values = dict[str, list[Any]]
"""Key of the configuration -> values to try."""

MAX_RUNS = 10_000
"""Maximum number of runs of a grid.  All configurations are checked before the first run starts."""


@dataclass
class GridFile:
    """The keys of a grid's file, see ``docs/ablations.md``.  Keys without a default are
    required.
    """

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
    """Read a grid's file.  If it has one list of test sizes for all scales, this list is used for
    ``scale``.

    Raises:
        ConfigError: the file is not YAML, a key is unknown or missing, a value has the wrong type,
            or a list is empty or repeats a value.
    """
    raw = read_keys(file)
    if "base" not in raw:
        raise ConfigError("no base; a grid needs base: EXPERIMENT and vary: or cells:")
    if isinstance(raw.get("evaluate_at"), list):
        raw["evaluate_at"] = {scale: raw["evaluate_at"]}
    grid: GridFile = convert(raw, GridFile, origin=file.name)
    for part in ("vary", "choose", "evaluate_at"):
        for key, values in getattr(grid, part).items():
            _check_different(f"{part}: {key}", values)
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
    """Format ``key=value`` such that the command line reads the same value."""
    bare = (
        isinstance(value, str)
        and re.fullmatch(r"[A-Za-z_][\w./:-]*", value)
        and yaml.safe_load(value) == value
    )
    return f"{key}={value if bare else json.dumps(value)}"


def cells_of(grid: GridFile) -> dict[str, Keys]:
    """Return name -> overrides, from ``vary`` or ``cells``.

    Raises:
        ConfigError: there are too many cells, or the names of two cells would share a log.
    """
    cells = {name: flatten(values or {}, keep_empty=True) for name, values in grid.cells.items()}
    check_number(map(len, grid.vary.values()))
    if grid.vary:
        for combination in itertools.product(*grid.vary.values()):
            cell = dict(zip(grid.vary, combination, strict=True))
            # A string is the label itself; another value is labelled with its key.
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
    """Check that a grid does not have too many runs.  The number of runs is the product of the
    factors.

    Raises:
        ConfigError: there are too many runs.
    """
    runs = prod(factors)
    if runs > MAX_RUNS:
        raise ConfigError(f"{runs:,} runs, at most {MAX_RUNS:,}; list fewer values or seeds")


def _check_different(name: str, values: list[Any]) -> None:
    values = change_texts(values, without_secrets)
    if not values or len({json.dumps(value) for value in values}) < len(values):
        raise ConfigError(f"{name} is {values}; list different values, such as [cls, avg, max]")


def read_choices(words: Iterable[str]) -> Values:
    """Parse the ``KEY=a,b,c`` words of ``--choose``.

    Raises:
        ConfigError: a word does not have this form.
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
    """Check that each of the paper's numbers belongs to a cell and a metric of the file.

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


LENGTH = (
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.limit_train_batches",
    "data.batch_size",
    "trainer.accumulate_grad_batches",
)
"""Keys that set the length of a run.  Cells of equal cost cannot vary these keys."""

TUNE = "evaluation.split=tune"
"""Override for the runs that are used to choose values."""


@dataclass(frozen=True)
class Grid:
    """A grid of experiments at one scale.

    Attributes:
        name: stem of the file.
        base: experiment that every cell starts from, a name or an absolute path.
        scale: a name or an absolute path.
        cells: name of a cell -> key of the configuration -> value, in the file's order.
        varied: the keys of ``vary``; empty for named cells.
        choose: key -> values to try.  Each cell is trained with every value, and the best is chosen
            on the tuning split.
        common: overrides of every cell: first those of the file for this scale, then those of the
            command line.
        evaluate_at: additional test sizes in pixels.
        against: the base cell, which the others are compared to.
        equal: ``flop`` to train each cell for as many steps as cost the FLOP of ``against``; None
            for the steps of each configuration.
        paper: the paper's numbers for the same cells.
        metric: the metric that values are chosen by and that is plotted.
    """

    name: str
    base: str
    scale: str
    cells: dict[str, dict[str, Any]]
    varied: list[str]
    choose: Values
    common: Overrides
    evaluate_at: list[int]
    against: str
    equal: str | None
    paper: Paper | None
    metric: str = ""

    @property
    def base_name(self) -> str:
        """The name of the base in the folders of runs."""
        return stem(self.base)

    @property
    def scale_name(self) -> str:
        """The name of the scale in the folders of runs."""
        return stem(self.scale)

    def words(self, cell: str, *, chosen: Overrides = (), seed: int) -> Overrides:
        """Return all overrides of a run."""
        words = [word(key, value) for key, value in self.cells[cell].items()]
        return (*self.common, *words, *chosen, f"seed={seed}")

    def design(self) -> Design:
        """Return the description of the grid that its tables show."""
        cells = {}
        for name, values in self.cells.items():
            texts = [word(key, values[key]).partition("=")[2] for key in self.varied]
            cells[name] = list(map(without_secrets, texts)) or [name]
        return Design(
            self.name,
            base=self.base_name,
            scale=self.scale_name,
            common=list(map(without_secrets, self.common)),
            heads=self.varied or ["cell"],
            cells=cells,
            against=self.against,
            metric=self.metric,
            sizes=self.evaluate_at,
            paper=self.paper,
        )

    def choices(self) -> list[Overrides]:
        """Return every combination of values to choose from, as overrides; empty if there is
        nothing to choose.
        """
        options = [[word(key, value) for value in values] for key, values in self.choose.items()]
        return list(itertools.product(*options)) if options else []


def read_grid(
    name: str, *, scale: str, overrides: Overrides = (), choose: Iterable[str] = ()
) -> Grid:
    """Read a grid and load every cell's configuration.

    Args:
        name: the stem of a YAML file in ``experiments/ablations``, or the path of another file.
            Its ``base`` may be a path relative to the file.
        scale: the stem of a YAML file in ``experiments/scales``, or the path of another file.
        overrides: ``key=value`` words for every cell.
        choose: ``KEY=a,b,c`` words in place of the file's ``choose``.

    Raises:
        ConfigError: the file, a cell or an override is wrong.  The message is one line that says
            where, and what to change.
    """
    file = find_yaml(EXPERIMENTS / "ablations", name, kind="grid")
    shipped = EXPERIMENTS / "ablations" / f"{file.stem}.yaml"
    if is_path(name) and shipped.is_file() and not shipped.samefile(file):
        raise ConfigError(
            f"grid {name}: the page of the shipped grid {file.stem} is in the same folder; rename "
            f"the file, such as my_{file.name}"
        )
    try:
        scale_name = stem(scale)
        file_keys = read_grid_file(file, scale_name)
        cells = cells_of(file_keys)
        if file_keys.paper is not None:
            check_paper(file_keys.paper, cells)
        for name in file_keys.scales:
            find_yaml(EXPERIMENTS / "scales", scale if name == scale_name else name, kind="scale")
        chosen = read_choices(choose) or file_keys.choose
        check_number((len(cells), *map(len, chosen.values())))
        scaled = flatten(file_keys.scales.get(scale_name, {}))
        grid = Grid(
            name=file.stem,
            base=_absolute(file_keys.base, file.parent),
            scale=_absolute(scale, Path.cwd()),
            cells=cells,
            varied=list(file_keys.vary),
            choose=chosen,
            common=(*(word(key, value) for key, value in scaled.items()), *overrides),
            evaluate_at=file_keys.evaluate_at.get(scale_name, []),
            against=file_keys.against,
            equal=file_keys.equal,
            paper=file_keys.paper,
        )
        _check_overrides(grid, overrides)
        return check_grid(grid)
    except ConfigError as error:
        raise ConfigError(f"grid {file.stem}: {error}") from error


def _absolute(name: str, folder: Path) -> str:
    """Make a path relative to ``folder`` absolute; return a name unchanged."""
    return str((folder / Path(name).expanduser()).resolve()) if is_path(name) else name


def _check_overrides(grid: Grid, overrides: Overrides) -> None:
    """Refuse overrides of keys that the grid sets."""
    varied = {key for values in grid.cells.values() for key in values}
    for override in overrides:
        key = override.partition("=")[0]
        if key in ("seed", "resume"):
            raise ConfigError(
                f"{override}: the grid sets it; choose --seeds N, and call again to resume"
            )
        if key in varied:
            raise ConfigError(f"{override}: {key} is varied by the cells; choose another key")
        if key in grid.choose or (grid.choose and key == "evaluation.split"):
            raise ConfigError(
                f"{override}: the grid chooses by it; leave it out, or leave choose out"
            )
    for key in grid.choose:
        if key in varied:
            raise ConfigError(f"choose: {key} is varied by the cells; choose another key")
        if grid.equal and not key.startswith("optimizer."):
            raise ConfigError(
                f"choose: {key} may change the FLOP of a step, which equal: flop counts once; "
                "choose keys of optimizer"
            )
    for key in LENGTH:
        if grid.equal and key in varied:
            raise ConfigError(
                f"{key}: equal: flop sets the steps of each cell; leave the key out, or leave "
                "equal out"
            )


def check_grid(grid: Grid) -> Grid:
    """Load every configuration, and return the grid with ``against`` and ``metric`` set.

    Raises:
        ConfigError: a configuration cannot run; names the cell.
    """
    common = (*grid.common, "seed=0")
    base = _load(grid, common, "base")
    for size in grid.evaluate_at:
        _load(grid, (*common, f"image.eval_size={size}"), "evaluate_at")
    hashes: dict[str, str] = {}
    for cell in grid.cells:
        part = f"cell {cell}"
        config = _load(grid, grid.words(cell, seed=0), part)
        if grid.equal and config.trainer.max_time is not None:
            raise ConfigError(
                f"{part}: trainer.max_time ends runs before their equal cost; leave it out"
            )
        for chosen in grid.choices():
            _load(grid, (*grid.words(cell, chosen=chosen, seed=0), TUNE), part)
        first = hashes.setdefault(config_hash(config), cell)
        if first != cell:
            raise ConfigError(f"cells {first} and {cell} are the same run; keep one")
    names = list(grid.cells)
    if grid.against and grid.against not in names:
        raise ConfigError(
            f"against: {grid.against!r} is not a cell; {nearest(grid.against, names)}"
        )
    benchmarks = base.evaluation.benchmarks
    rows = [BENCHMARKS[name] for name in benchmarks]
    segmented = [row.name for row in rows if "segmentation" in row.measures]
    if not segmented:
        raise ConfigError(
            f"evaluation.benchmarks={benchmarks}: none measures segmentation, by which cells are "
            "compared; name one that does"
        )
    against = grid.against or hashes.get(config_hash(base), names[0])
    return replace(grid, against=against, metric=f"{segmented[0]}/miou")


def _load(grid: Grid, words: Overrides, part: str) -> Experiment:
    try:
        config = load(grid.base, scale=grid.scale, overrides=words)
        check_training(config)
        return config
    except ConfigError as error:
        raise ConfigError(f"{part}: {error}") from error
