"""Set the number of steps of each cell of a grid so that all cells cost the same FLOP."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from gestalt.ablation.grid import Grid, check_grid
from gestalt.ablation.jobs import read_state_file
from gestalt.config.loading import load
from gestalt.config.schema import config_hash
from gestalt.results.record import write_record
from gestalt.results.text import amount
from gestalt.runs.process import check_alone
from gestalt.runs.trial import step_flop
from gestalt.support.process import tell
from gestalt.support.typed import ConfigError

COUNTS = "flop.json"
"""File in the grid's folder: hash of a configuration -> cost.  A repeated call reads this file, so
that its runs stay the same.
"""


def at_equal_cost(grid: Grid, folder: Path, *, write: bool) -> tuple[Grid, list[str]]:
    """Return the grid with the steps of each cell set, and a line for each cell.

    A cell whose number of steps does not change keeps its configuration.

    Args:
        grid: from ``read_grid``, with ``equal: flop``.
        folder: folder of the grid's page, where the counts are stored.
        write: False to leave the file of counts unchanged.

    Raises:
        ConfigError: the FLOP of a cell cannot be counted, or a cell cannot run for its number of
            steps; names the cell.
    """
    file = folder / COUNTS
    counts = read_state_file(file, "flop").get("counts", {})
    costs = {}
    for cell in grid.cells:
        config = load(grid.base, scale=grid.scale, overrides=grid.words(cell, seed=0))
        key = config_hash(config)
        if key not in counts:
            check_alone("equal: flop counts on")
            tell("counting the FLOP of a step")
            try:
                flop, steps = step_flop(config)
            except ValueError as error:
                raise ConfigError(
                    f"grid {grid.name}: cell {cell}: its FLOP cannot be counted: {error}"
                ) from error
            counts[key] = {"flop": flop, "steps": steps}
            if write:
                write_record(file, {"counts": counts})
        costs[cell] = counts[key]
    budget = costs[grid.against]
    cells = {}
    lines = []
    for cell, cost in costs.items():
        steps = max(1, round(Fraction(budget["steps"] * budget["flop"], cost["flop"])))
        cells[cell] = dict(grid.cells[cell])
        if steps != cost["steps"]:
            cells[cell]["trainer.max_steps"] = steps
        if steps > cost["steps"]:  # else the run would end after its epochs
            cells[cell]["trainer.max_epochs"] = -1
        lines.append(
            f"{cell}: {steps:,} steps of {amount(cost['flop'], 'FLOP')}, "
            f"{amount(steps * cost['flop'], 'FLOP')} in total."
        )
    try:
        return check_grid(replace(grid, cells=cells)), lines
    except ConfigError as error:
        raise ConfigError(f"grid {grid.name}: equal: flop: {error}") from error
