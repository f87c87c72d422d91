"""ablate: run a grid of experiments and compare its cells."""

import os
import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from gestalt.commands.equal_cost import at_equal_cost
from gestalt.commands.process import quiet
from gestalt.commands.stopping import program, tell
from gestalt.config.loading import LOGS
from gestalt.config.schema import ConfigError, Experiment
from gestalt.results.text import span
from gestalt.runs import locks
from gestalt.studies.cluster import CLUSTERS, ClusterLauncher, read_parameters
from gestalt.studies.grid import Grid
from gestalt.studies.local import LocalLauncher
from gestalt.studies.pool import Launcher, Stopped
from gestalt.studies.study import Study, expected_seconds


def run(arguments: Namespace) -> int:
    """Run the grid; the exit status is 1 if a run failed."""
    flags = {key: getattr(arguments, key) for key in ("seeds", "jobs", "dry_run", "allow_mixed", "cluster")}
    try:
        return 0 if ablate(arguments.grid, **flags, parameters=read_parameters(arguments.submitit)) else 1
    except Stopped as stop:
        tell(f"gestalt: {stop}\ncontinue with: {program()} {shlex.join(arguments.words)}")
        return 128 + stop.signal_number


def ablate(
    grid: Grid, *, seeds: int, jobs: int | None, dry_run: bool, allow_mixed: bool, cluster: str | None, parameters: dict[str, Any]
) -> bool:
    """Run a grid, or list what would be run.  Returns True if no run failed.

    Args:
        grid: from ``read_grid``.
        seeds: reported runs of each cell.
        jobs: runs at a time; None for one here, and for all on SLURM.
        dry_run: only list the runs.
        allow_mixed: compare results that are not comparable, and say so on the page.
        cluster: slurm or local, for jobs through submitit; None for processes of this machine.
        parameters: keywords for submitit.

    Raises:
        ConfigError: parameters without a cluster, submitit refuses them, another process runs this grid, or the results are not comparable.
        Stopped: a signal came.
    """
    if parameters and cluster is None:
        raise ConfigError(f"--submitit {' '.join(parameters)}: needs --cluster {' or '.join(CLUSTERS)}")
    folder = LOGS / "ablations" / grid.name / grid.scale_name
    launcher: Launcher
    if cluster is None:
        launcher = LocalLauncher(jobs or 1, folder / "logs")
    else:
        launcher = ClusterLauncher(cluster, folder / "jobs", jobs or (sys.maxsize if cluster == "slurm" else 1), parameters)
    size = f"{len(grid.cells)} cells of {grid.base_name}, {seeds} seed{'s' if seeds > 1 else ''} each"
    tell(f"{grid.name} at scale {grid.scale_name}: {size}, differences to {grid.against}")
    if dry_run:
        print("\n".join(plan(_study(grid, seeds, launcher, folder, allow_mixed=allow_mixed, keep=False))))
        return True
    with locks.hold(folder / ".lock", busy=f"{folder}: another process runs this grid; wait for it, or stop it"):
        study = _study(grid, seeds, launcher, folder, allow_mixed=allow_mixed, keep=True)
        print(study.run())
    tell(f"page: {folder / 'table.md'}")
    return not study.failed


def _study(grid: Grid, seeds: int, launcher: Launcher, folder: Path, *, allow_mixed: bool, keep: bool) -> Study:
    """Return the study of a grid, with cells of equal cost if the grid says so; ``keep`` writes the counts."""
    remarks: list[str] = []
    if grid.equal:
        grid, remarks = at_equal_cost(grid, folder=folder, count=_step_flop, keep=keep)
        tell("\n".join(remarks))
    return Study(grid, seeds, launcher, folder, say=tell, allow_mixed=allow_mixed, remarks=remarks)


def _step_flop(config: Experiment) -> tuple[int, int]:
    from gestalt.commands.flop_trial import step_flop  # torch
    from gestalt.commands.plan import check_alone

    check_alone(os.environ, what="equal: flop counts on")
    quiet()
    tell("counting the FLOP of a step")
    return step_flop(config)


def plan(study: Study) -> list[str]:
    """List the runs of a call with their states, one a line, and the expected time in the last line."""
    lines, remaining = [], 0
    tuning = study.tuning()
    if study.grid.choose and all(job.read_state().kind == "finished" for job in tuning):
        study.choose()
    jobs = [*tuning, *study.reported()]
    for job in jobs:
        state = job.read_state()
        remaining += state.kind != "finished"
        folder = f"  {state.folder}" if state.folder else ""
        lines.append(f"{state.kind:<9} {job.label}{folder}")
    if study.grid.choose and not study.chosen:
        labels = [f"{cell.name}, seed {seed}" for seed in range(study.seeds) for cell in study.grid.cells]
        lines += [f"{'new':<9} {label}, with the chosen value" for label in labels]
        remaining += len(labels)
    tests = [f"then each is tested at {', '.join(map(str, study.grid.evaluate_at))} px"] if study.grid.evaluate_at else []
    seconds = expected_seconds(jobs)
    limit = max(1, min(study.launcher.limit, remaining))
    time = f"about {span(seconds * remaining / limit)}" if seconds else "time unknown until one is finished"
    if not remaining:
        time = "nothing to do"
    return [*lines, *tests, f"{remaining} of {len(lines)} runs to come; {time}"]
