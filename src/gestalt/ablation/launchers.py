"""Launch the jobs of a grid, as processes of this machine or on a cluster.

Cluster jobs are submitted with submitit: to SLURM, or to submitit's local executor, which behaves
the same on one machine.
"""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gestalt.ablation.jobs import Job, State, read_state_file
from gestalt.models.names import Overrides
from gestalt.support.addresses import without_secrets
from gestalt.support.files import write_whole
from gestalt.support.process import follow_environment
from gestalt.support.typed import ConfigError

PROGRAM = (sys.executable, "-P", "-m", "gestalt")
"""Command of a run.  With -P, a module in the working directory cannot shadow an installed
module.
"""

ERROR = re.compile(r"(gestalt: |[\w.]*(Error|Exception|Interrupt|Exit|Loss|Interrupted)\b)")
"""Pattern of the start of a line that names an error."""

TICK = 0.1
"""Seconds between two checks of the processes.  It is ten times as long while a run of another
process is waited for.
"""


class LocalProcess(subprocess.Popen[bytes]):
    """A run as a process of this machine.

    It has a separate session, so that Ctrl-C reaches it only through this program.

    Attributes:
        log: file to which the output is appended, after the output of earlier attempts.
    """

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {' '.join(map(without_secrets, command))}\n".encode())
            file.flush()
            self._begins = file.tell()
            super().__init__(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return the output of this attempt."""
        with self.log.open("rb") as file:
            file.seek(self._begins)
            return file.read().decode(errors="replace")

    def interrupt(self) -> None:
        """Send SIGINT.  The run then finishes its step and saves."""
        self.send_signal(signal.SIGINT)


@dataclass
class LocalLauncher:
    """Starts runs as processes of this machine.

    Attributes:
        limit: maximum number of runs at a time.  Each gets a share of the cores and of the GPUs.
        logs: folder of the log files.
        detached: False, because the runs end with this process.
    """

    limit: int
    logs: Path
    detached = False

    def start(self, job: Job, state: State, slot: int) -> LocalProcess:
        """Start a run.  ``slot``, in [0, limit), differs between runs that run at the same time."""
        command = [*PROGRAM, *job.command(state)]
        environment = follow_environment() | shares(self.limit, slot)
        return LocalProcess(command, self.logs / f"{job.stem}.log", environment)


def shares(jobs: int, slot: int) -> dict[str, str]:
    """Return the environment variables that divide the machine among ``jobs`` processes; empty for
    a single process.
    """
    if jobs == 1:
        return {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = min(threads, int(os.environ["OMP_NUM_THREADS"]))
    shared = {"OMP_NUM_THREADS": str(threads)}
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        import torch

        named = ",".join(map(str, range(torch.cuda.device_count())))
    devices = [name for name in named.split(",") if name]
    if devices:
        shared["CUDA_VISIBLE_DEVICES"] = ",".join(devices[slot % len(devices) :: jobs])
    return shared


def reason(text: str, status: int) -> str:
    """Return one line that says why a process failed: the last line that names an error, or else
    the last line, and the signal that ended the process.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    line = (
        (errors or lines or ["no output"])[-1]
        .removeprefix("gestalt: ")
        .removesuffix(" (--debug shows where)")
    )
    return f"killed by {signal.Signals(-status).name}; last output: {line}" if status < 0 else line


Parameters = dict[str, Any]
"""Parameters of submitit."""

FOLLOWS = {"trainer.devices": "gpus_per_node", "trainer.num_nodes": "nodes"}
"""Override of a run -> parameter of submitit that must have the same value."""


@dataclass
class ClusterJob:
    """A job on the cluster.  It starts or resumes its run, and is submitted again after
    pre-emption.

    Attributes:
        job: the training or evaluation.
        program: command that is followed by the arguments of the run.
        words: overrides that follow those of the run.
    """

    job: Job
    program: tuple[str, ...]
    words: Overrides = ()
    _process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command and return its exit status.  The output goes to the output of the job."""
        state = self.job.read_state()
        if state.kind == "finished":
            return 0
        command = [*self.program, *self.job.command(state), *self.words]
        self._process = subprocess.Popen(
            command,
            env=follow_environment(),
            # SLURM may send submitit's signal to every process of the job.
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        try:
            _await(self._process)
        except KeyboardInterrupt:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Let the run save and stop, and queue this job again.  submitit calls this method shortly
        before the time limit.
        """
        import submitit

        if self._process:
            self._process.send_signal(signal.SIGTERM)
            _await(self._process)
        return submitit.helpers.DelayedSubmission(ClusterJob(self.job, self.program, self.words))


def _await(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process without ``Popen.wait``, whose lock a signal handler that interrupts it
    could never take.
    """
    with contextlib.suppress(ChildProcessError):  # the exit status was already collected
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


class ClusterProcess:
    """A submitted job.

    Attributes:
        log: file with the output of the job's first task.
    """

    def __init__(self, job: Any) -> None:
        self.log = Path(job.paths.stdout)
        self.job = job

    def poll(self) -> int | None:
        """Return the exit status of the run; None while it is queued or running, and 1 if the job
        itself failed.
        """
        if not self.job.done():
            return None
        return 1 if self.job.exception() is not None else int(self.job.result())

    def output(self) -> str:
        """Return the output of the run, or else the message of submitit."""
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return text if text.strip() else str(self.job.exception() or "")

    def interrupt(self) -> None:
        """Cancel the job.  SLURM then sends SIGTERM, and the run saves."""
        self.job.cancel(check=False)

    kill = interrupt  # the cluster ends a cancelled job


Process = LocalProcess | ClusterProcess
"""A started run."""


class ClusterLauncher:
    """Submits runs to a cluster.

    Args:
        cluster: ``slurm`` or ``local``.
        folder: folder for submitit's files and the list of submitted jobs.
        limit: maximum number of jobs that are submitted at a time.
        parameters: parameters of submitit, such as ``slurm_partition``, ``gpus_per_node``,
            ``nodes``, ``timeout_min``.

    Attributes:
        detached: True on SLURM, whose jobs outlive the process that submitted them.

    Raises:
        ConfigError: submitit is not installed, does not know a parameter, or finds no cluster.
    """

    def __init__(self, cluster: str, folder: Path, limit: int, parameters: Parameters) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError(
                "--cluster: submitit is not installed; pip install submitit, or "
                "gestalt-grouping[slurm]"
            )
        import submitit

        self.limit = limit
        self.detached = cluster == "slurm"
        self._folder = folder
        self._parameters = parameters
        # submitit's times are in minutes
        defaults: Parameters = {"timeout_min": 24 * 60, "stderr_to_stdout": True}
        # On a cluster, Lightning expects a task for each GPU.
        if cluster == "slurm" and "gpus_per_node" in parameters:
            defaults["tasks_per_node"] = parameters["gpus_per_node"]
        python = {f"{cluster}_python": f"{shlex.quote(sys.executable)} -P"}
        try:
            self._executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster, **python)
            self._executor.update_parameters(**(defaults | parameters))
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
            raise ConfigError(f"--cluster {cluster}: {' '.join(str(error).split())}") from error

    def start(self, job: Job, state: State, slot: int) -> ClusterProcess:
        """Submit a run, or return the job that an earlier call submitted for it."""
        path = self._folder / "submitted.json"
        submitted = read_state_file(path, "submitted")
        if job.key in submitted:
            earlier = self._executor.job_class(self._folder / "%j", submitted[job.key])
            if not earlier.done():
                return ClusterProcess(earlier)
        submission = self._executor.submit(ClusterJob(job, PROGRAM, self._words(job)))
        write_whole(path, json.dumps({**submitted, job.key: submission.job_id}, indent=1))
        return ClusterProcess(submission)

    def _words(self, job: Job) -> Overrides:
        """Return the overrides for the devices and nodes of the cluster, except those that the run
        sets.
        """
        overridden = {word.partition("=")[0] for word in job.words}
        return tuple(
            f"{key}={self._parameters[name]}"
            for key, name in FOLLOWS.items()
            if name in self._parameters and key not in overridden
        )
