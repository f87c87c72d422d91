"""ablate: run a grid of experiments and compare its cells."""

import statistics
import sys
from argparse import Namespace
from contextlib import nullcontext
from typing import Any

from gestalt.ablation.launchers import ClusterLauncher, LocalLauncher, read_parameters
from gestalt.ablation.study import Study
from gestalt.commands.equal_cost import at_equal_cost
from gestalt.commands.stopping import tell
from gestalt.config.loading import LOGS
from gestalt.results.text import span
from gestalt.runs import locks
from gestalt.support.addresses import without_secrets
from gestalt.support.typed import ConfigError


def run(arguments: Namespace) -> int:
    """Run a grid, or list what would be run.  Returns 1 if a run failed, else 0.

    Raises:
        ConfigError: parameters without a cluster, submitit refuses them, another process runs this
            grid, or the results are not comparable.
        Stopped: a signal came.
    """
    grid = arguments.grid
    cluster = arguments.cluster
    parameters = read_parameters(arguments.submitit)
    if parameters and cluster is None:
        raise ConfigError(f"--submitit {' '.join(parameters)}: needs --cluster slurm or local")
    folder = LOGS / "ablations" / grid.name / grid.scale_name
    launcher: Any = LocalLauncher(arguments.jobs or 1, folder / "logs")
    if cluster is not None:
        limit = arguments.jobs or (sys.maxsize if cluster == "slurm" else 1)
        launcher = ClusterLauncher(cluster, folder / "jobs", limit, parameters)
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
            say=tell,
            allow_mixed=arguments.allow_mixed,
            remarks=remarks,
        )
        if arguments.dry_run:
            print(without_secrets("\n".join(plan(study))))
            return 0
        print(study.run())
    tell("\n".join([*study.failures, f"page: {folder / 'table.md'}"]))
    return 1 if study.failures else 0


def plan(study: Study) -> list[str]:
    """List the runs of a call with their states, one per line, and the expected time in the last
    line.
    """
    tuning = study.tuning()
    if study.grid.choose and all(job.read_state().kind == "finished" for job in tuning):
        study.choose()
    jobs = [*tuning, *study.reported()]
    lines = []
    spent = []
    for job in jobs:
        state = job.read_state()
        if state.record is not None:
            spent.append(sum(state.record["seconds"].values()))
        lines.append(f"{state.kind:<9} {job.label}{f'  {state.folder}' if state.folder else ''}")
    if study.grid.choose and not study.chosen:
        for seed in range(study.seeds):
            lines += [
                f"{'new':<9} {cell}, seed {seed}, with the chosen value"
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
