"""Give the cells of a grid the number of steps that costs the same FLOP."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError, Experiment
from gestalt.planning.flops import equal_steps, operations
from gestalt.results.record import write_record
from gestalt.studies.grid import Cell, Grid, checked

COUNTS = "flop.json"
"""File in the grid's folder: hash of a configuration -> its cost.  A repeated call reads it, so that its runs stay the same."""


class Cost(NamedTuple):
    """The cost of a cell's training by its own configuration.

    Attributes:
        flop: FLOP of a step.
        steps: number of steps of the run.
    """

    flop: int
    steps: int


def at_equal_cost(grid: Grid, *, folder: Path, count: Callable[[Experiment], tuple[int, int]], keep: bool = True) -> tuple[Grid, list[str]]:
    """Return the grid with the steps of each cell set, and a line for each cell.

    A cell whose number of steps does not change keeps its configuration.

    Args:
        grid: from ``read_grid``, with ``equal: flop``.
        folder: folder of the grid's page, where the counts are kept.
        count: maps a configuration to the FLOP of a step and the steps of its run.
        keep: False writes no file.

    Raises:
        ConfigError: a cell cannot be counted, or cannot run for its number of steps; names the cell.
    """
    configs = {cell.name: load(grid.base, scale=grid.scale, overrides=[*grid.words(cell, seed=0)]) for cell in grid.cells}
    known = _read(folder / COUNTS)
    costs = {}
    for name, config in configs.items():
        key = config_hash(config)
        if key not in known:
            try:
                known[key] = Cost(*count(config))
            except ValueError as error:
                raise ConfigError(f"grid {grid.name}: cell {name}: its FLOP cannot be counted: {error}") from error
            if keep:
                write_record(folder / COUNTS, {"counts": {key: cost._asdict() for key, cost in known.items()}})
        costs[name] = known[key]
    budget = costs[grid.against]
    cells, lines = [], []
    for cell in grid.cells:
        cost = costs[cell.name]
        steps = equal_steps(budget.steps, flop=budget.flop, of=cost.flop)
        cells.append(cell if steps == cost.steps else _with_steps(cell, steps, longer=steps > cost.steps))
        lines.append(f"{cell.name}: {steps:,} steps of {operations(cost.flop)}, {operations(steps * cost.flop)} in total.")
    try:
        return checked(replace(grid, cells=tuple(cells))), lines
    except ConfigError as error:
        raise ConfigError(f"grid {grid.name}: equal: flop: {error}") from error


def _with_steps(cell: Cell, steps: int, *, longer: bool) -> Cell:
    """Return a cell that ends at a step; ``longer`` removes the end by epochs, which would come before."""
    epochs = {"trainer.max_epochs": -1} if longer else {}
    return replace(cell, values={**cell.values, "trainer.max_steps": steps, **epochs})


def _read(file: Path) -> dict[str, Cost]:
    if not file.is_file():
        return {}
    return {key: Cost(int(entry["flop"]), int(entry["steps"])) for key, entry in json.loads(file.read_text())["counts"].items()}
