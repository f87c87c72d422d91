"""Unattended runs: queueing a SLURM job again, and the note of a run that diverged."""

import subprocess
from collections.abc import Mapping

SCONTROL_SECONDS = 60
DIVERGED = "diverged.txt"
"""A note in the folder of a run that stopped because its loss was not finite."""


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
