"""ablate: run a grid of experiments and compare its cells."""

import statistics
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from typing import TYPE_CHECKING

from gestalt.commands.flags import add_keys, add_launcher, add_scale, choose_launcher, count
from gestalt.config.folders import LOGS
from gestalt.runs import locks
from gestalt.support.addresses import without_secrets
from gestalt.support.typed import ConfigError

if TYPE_CHECKING:
    from gestalt.ablation.grid import Grid
    from gestalt.ablation.study import Study


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "grid",
        nargs="?",
        help="one of `gestalt list grids`, or a YAML file of yours (default: aggregation_by_init)",
    )
    add_scale(parser)
    add = parser.add_argument
    add(
        "--seeds",
        type=count,
        default=1,
        help="runs of each cell (default: %(default)s)",
    )
    add(
        "--choose",
        metavar="KEY=a,b",
        action="append",
        default=[],
        help="values to try on the tuning split in each cell; repeatable",
    )
    add(
        "--dry-run",
        action="store_true",
        help="list the runs, which of them are finished, and the time",
    )
    add(
        "--allow-mixed",
        action="store_true",
        help="compare results of different commits, protocols or benchmarks",
    )
    add_launcher(parser)
    add_keys(
        parser,
        "any key of the configuration except seed and resume, for every cell, such as "
        "trainer.max_epochs=2 data.root=DIR",
    )


def check(arguments: Namespace) -> "Grid":
    """Read the grid.  ``arguments.grid`` may be an override that argparse has taken for the
    name.
    """
    from gestalt.ablation.grid import check_number, read_grid

    words = [word for word in (arguments.grid, *arguments.overrides) if word]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"ablate: {' '.join(names)}: one grid at a time; overrides are key=value")
    overrides = tuple(word for word in words if "=" in word)
    name = (names or ["aggregation_by_init"])[0]
    grid = read_grid(name, scale=arguments.scale, overrides=overrides, choose=arguments.choose)
    check_number((arguments.seeds, len(grid.cells)))
    return grid


def run(arguments: Namespace) -> int:
    """Run a grid, or list what would be run.  Returns 1 if a run failed, else 0.

    Raises:
        ConfigError: parameters for a cluster are given without a cluster, or submitit refuses the
            parameters; another process runs this grid; or the results are not comparable.
        Interrupted: the process received a signal to stop.
    """
    from gestalt.ablation.equal_cost import at_equal_cost
    from gestalt.ablation.study import Study
    from gestalt.support.process import tell

    grid: Grid = arguments.checked
    folder = LOGS / "ablations" / grid.name / grid.scale_name
    launcher = choose_launcher(arguments, folder)
    tell(
        f"{grid.name} at scale {grid.scale_name}: {len(grid.cells)} cells of {grid.base_name}, "
        f"{arguments.seeds} seed{'s' if arguments.seeds > 1 else ''} each, differences to "
        f"{grid.against}"
    )
    busy = f"{folder}: another process runs this grid; wait for it, or stop it"
    with nullcontext() if arguments.dry_run else locks.hold(folder / ".lock", busy):
        remarks: list[str] = []
        if grid.equal:
            grid, remarks = at_equal_cost(grid, folder, write=not arguments.dry_run)
            tell("\n".join(remarks))
        study = Study(
            grid,
            arguments.seeds,
            launcher,
            folder,
            allow_mixed=arguments.allow_mixed,
            remarks=remarks,
        )
        if arguments.dry_run:
            print(without_secrets("\n".join(plan(study))))
            return 0
        print(study.run())
    tell("\n".join([*study.queue.failures, f"page: {folder / 'table.md'}"]))
    return 1 if study.queue.failures else 0


def plan(study: "Study") -> list[str]:
    """Return a line for each run of the grid with its state, and a last line with the expected
    time.
    """
    from gestalt.results.text import span

    tuning = study.tuning()
    if study.grid.choose and all(job.read_state().kind == "finished" for job in tuning):
        study.choose()
    jobs = [*tuning, *study.reported()]
    lines = []
    spent = []
    for job in jobs:
        state = job.read_state()
        if state.result is not None:
            spent.append(sum(state.result.record["seconds"].values()))
        lines.append(f"{state.kind:<9} {job.label}{f'  {state.folder}' if state.folder else ''}")
    if study.grid.choose and not study.chosen:
        lines += [
            f"{'new':<9} {cell}, seed {seed}, with the chosen value"
            for seed in range(study.seeds)
            for cell in study.grid.cells
        ]
    total = len(lines)
    remaining = sum(not line.startswith("finished") for line in lines)
    if study.grid.evaluate_at:
        lines.append(f"then each is tested at {', '.join(map(str, study.grid.evaluate_at))} px")
    time = "nothing to do"
    if remaining and spent:
        at_a_time = min(study.launcher.limit, remaining)
        time = f"about {span(statistics.median(spent) * remaining / at_a_time)}"
    elif remaining:
        time = "time unknown until one is finished"
    return [*lines, f"{remaining} of {total} runs to come; {time}"]
