"""Give the cells of a grid the number of steps that costs the same FLOP."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from gestalt.ablation.grid import Cell, Grid, checked
from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.config.schema import ConfigError, Experiment
from gestalt.results.record import write_record

COUNTS = "flop.json"
"""File in the grid's folder: hash of a configuration -> its cost.  A repeated call reads it, so
that its runs stay the same.
"""


def at_equal_cost(
    grid: Grid, *, folder: Path, count: Callable[[Experiment], tuple[int, int]]
) -> tuple[Grid, list[str]]:
    """Return the grid with the steps of each cell set, and a line for each cell.

    A cell whose number of steps does not change keeps its configuration.

    Args:
        grid: from ``read_grid``, with ``equal: flop``.
        folder: folder of the grid's page, where the counts are kept.
        count: maps a configuration to the FLOP of a step and the steps of its run.

    Raises:
        ConfigError: a cell cannot be counted, or cannot run for its number of steps; names the
            cell.
    """
    file = folder / COUNTS
    counts = json.loads(file.read_text())["counts"] if file.is_file() else {}
    costs = {}
    for cell in grid.cells:
        config = load(grid.base, scale=grid.scale, overrides=[*grid.words(cell, seed=0)])
        key = config_hash(config)
        if key not in counts:
            try:
                flop, steps = count(config)
            except ValueError as error:
                raise ConfigError(
                    f"grid {grid.name}: cell {cell.name}: its FLOP cannot be counted: {error}"
                ) from error
            counts[key] = {"flop": flop, "steps": steps}
            write_record(file, {"counts": counts})
        costs[cell.name] = counts[key]
    budget = costs[grid.against]
    cells, lines = [], []
    for cell in grid.cells:
        cost = costs[cell.name]
        steps = max(1, round(Fraction(budget["steps"] * budget["flop"], cost["flop"])))
        cells.append(_with_steps(cell, steps, of=cost["steps"]))
        lines.append(
            f"{cell.name}: {steps:,} steps of {format_flop(cost['flop'])}, "
            f"{format_flop(steps * cost['flop'])} in total."
        )
    try:
        return checked(replace(grid, cells=tuple(cells))), lines
    except ConfigError as error:
        raise ConfigError(f"grid {grid.name}: equal: flop: {error}") from error


def _with_steps(cell: Cell, steps: int, *, of: int) -> Cell:
    """Return a cell that ends at a step; a longer run than its own, which has ``of`` steps, has no
    end by epochs.
    """
    if steps == of:
        return cell
    epochs = {"trainer.max_epochs": -1} if steps > of else {}
    return replace(cell, values={**cell.values, "trainer.max_steps": steps, **epochs})


def format_flop(flop: float) -> str:
    """Format FLOP."""
    for unit, factor in (("EFLOP", 10**18), ("PFLOP", 10**15), ("TFLOP", 10**12)):
        if flop >= factor:
            return f"{flop / factor:,.4g} {unit}"
    return f"{flop / 10**9:,.4g} GFLOP"
