"""Unattended runs: the unfinished run that ``resume=auto`` continues, and queueing a SLURM job
again.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from gestalt.config.identity import config_hash
from gestalt.config.schema import ConfigError, Experiment
from gestalt.runs.names import CHECKPOINT, runs_of, saved_hash
from gestalt.runs.progress import is_finished

SCONTROL_SECONDS = 60
DIVERGED = "diverged.txt"
"""A note in the folder of a run that stopped because its loss was not finite."""


def unfinished_run(config: Experiment) -> Path | None:
    """Return the last checkpoint of the only unfinished run of this configuration; None if there is
    none.  Runs that diverged do not count.

    A run is unfinished while it has a checkpoint and no ``result.json``, or one that
    ``trainer.max_time`` ended before its last step.

    Raises:
        ConfigError: several runs are unfinished, and the configuration does not tell which is
            meant; or the newest run diverged.
    """
    runs = [
        folder
        for folder in runs_of(config.name, config.scale)
        if saved_hash(folder) == config_hash(config)
    ]
    diverged = [folder for folder in runs if (folder / DIVERGED).exists()]
    unfinished = [
        folder
        for folder in runs
        if folder not in diverged and (folder / CHECKPOINT).exists() and not is_finished(folder)
    ]
    if runs and runs[-1] in diverged:
        reason = (runs[-1] / DIVERGED).read_text().strip()
        raise ConfigError(
            f"resume=auto: {runs[-1]} stopped: {reason}. Change the configuration, or continue "
            f"with resume={runs[-1]}"
        )
    if len(unfinished) > 1:
        names = ", ".join(map(str, unfinished))
        raise ConfigError(
            f"resume=auto: {len(unfinished)} runs of this configuration are unfinished: {names}; "
            "name one with resume=FOLDER"
        )
    return unfinished[0] / CHECKPOINT if unfinished else None


def requeue_job(environment: Mapping[str, str]) -> str:
    """Ask SLURM to queue the job of this process again; return a sentence on the outcome, empty
    outside a job.
    """
    if "SLURM_JOB_ID" not in environment:
        return ""
    job = environment["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job],
            capture_output=True,
            text=True,
            timeout=SCONTROL_SECONDS,
            check=False,
        )
        fault = f": {' '.join(done.stderr.split())}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = f" failed: {error}"
    if fault:
        return (
            f"SLURM job {job} was not queued again, scontrol{fault}; submit the same command again"
        )
    return f"SLURM job {job} is queued again"
