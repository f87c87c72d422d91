"""``ablate``: what the command line calls for a grid."""

import sys
from pathlib import Path
from typing import IO, Any

from gestalt.config.loading import LOGS
from gestalt.config.schema import ConfigError
from gestalt.ledger.text import span
from gestalt.runs import locks
from gestalt.studies.cluster import CLUSTERS, ClusterLauncher
from gestalt.studies.grid import Grid
from gestalt.studies.local import LocalLauncher
from gestalt.studies.pool import Launcher
from gestalt.studies.study import Study, expected_seconds


def ablate(
    grid: Grid, *, seeds: int, jobs: int | None, dry_run: bool, allow_mixed: bool, cluster: str | None, parameters: dict[str, Any]
) -> bool:
    """Run a grid, or say what would be run; whether nothing failed.

    Args:
        grid: as ``read_grid`` gives it.
        seeds: reported runs of each cell.
        jobs: runs at a time; None for one here, and for all on SLURM.
        dry_run: only list the runs.
        allow_mixed: compare what is not comparable, and say so on the page.
        cluster: slurm or local, for jobs through submitit; None for processes of this machine.
        parameters: submitit's own.

    Raises:
        ConfigError: a number or a name is wrong, another process runs this grid, or the results are not comparable.
        Stopped: a signal came.
    """
    for flag, value in (("--seeds", seeds), ("--jobs", jobs)):
        if value is not None and value < 1:
            raise ConfigError(f"{flag} {value}: choose 1 or more")
    if parameters and cluster is None:
        raise ConfigError(f"--submitit {' '.join(parameters)}: needs --cluster {' or '.join(CLUSTERS)}")
    folder = LOGS / "ablations" / grid.name / grid.scale
    launcher: Launcher
    if cluster is None:
        launcher = LocalLauncher(jobs or 1, folder / "logs")
    else:
        launcher = ClusterLauncher(cluster, folder / "jobs", jobs or (sys.maxsize if cluster == "slurm" else 1), parameters)
    study = Study(grid, seeds, launcher, folder, say=tell, allow_mixed=allow_mixed)
    tell(f"{grid.name} at scale {grid.scale}: {len(grid.cells)} cells x {seeds} seeds of {grid.base}, differences to {grid.against}")
    if dry_run:
        print("\n".join(plan(study)))
        return True
    with take(folder):
        print(study.run())
    tell(f"page: {folder / 'table.md'}")
    return not study.failed


def plan(study: Study) -> list[str]:
    """What a call would do, a line a run, and how long it would take."""
    lines, left = [], 0
    tuning = study.tuning()
    if study.grid.choose and all(run.look().kind == "finished" for run in tuning):
        study.choose()
    works = [*tuning, *study.reported()]
    for work in works:
        state = work.look()
        left += state.kind != "finished"
        where = f"  {state.folder}" if state.folder else ""
        lines.append(f"{state.kind:<9} {work.label}{where}")
    if study.grid.choose and not study.chosen:
        later = [f"{cell.name}, seed {seed}" for seed in range(study.seeds) for cell in study.grid.cells]
        lines += [f"{'new':<9} {label}, with the value that is chosen" for label in later]
        left += len(later)
    further = [f"then each is tested at {', '.join(map(str, study.grid.evaluate_at))} px"] if study.grid.evaluate_at else []
    each = expected_seconds(works)
    limit = max(1, min(study.launcher.limit, left))
    time = f"about {span(each * left / limit)}" if each and left else "nothing to do" if not left else "time unknown until one is finished"
    return [*lines, *further, f"{left} of {len(lines)} runs to come; {time}"]


def take(folder: Path) -> IO[str]:
    """Keep a grid's folder for this process while the returned file is open.

    Raises:
        ConfigError: another process has it.
    """
    return locks.hold(folder / ".lock", busy=f"{folder}: another process runs this grid; wait for it, or stop it")


def tell(line: str) -> None:
    """To the standard error, so that the page can be piped."""
    print(line, file=sys.stderr, flush=True)
