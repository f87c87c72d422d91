"""Jobs on a cluster, submitted through submitit: SLURM, or its local executor, which does the same on one machine."""

import contextlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gestalt.config.schema import ConfigError
from gestalt.studies.jobs import Job, State
from gestalt.studies.local import PROGRAM, reason
from gestalt.support.files import replacing
from gestalt.support.parent import followed

CLUSTERS = ("slurm", "local")
DEFAULTS: dict[str, Any] = {"timeout_min": 24 * 60}  # submitit's own are five minutes on SLURM and two on one machine
FOLLOWS = {"trainer.devices": "gpus_per_node", "trainer.num_nodes": "nodes"}
"""Overrides of a run -> the parameters of submitit they must equal."""


@dataclass
class ClusterJob:
    """A job on the cluster: starts or resumes its run, and is submitted again after pre-emption.

    Attributes:
        job: the training or evaluation.
        program: command that the arguments of a run follow.
        words: overrides after those of the run.
    """

    job: Job
    program: tuple[str, ...]
    words: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run it and return its exit status; its output goes to the output of the job."""
        state = self.job.read_state()
        if state.kind == "finished":
            return 0
        command = [*self.program, *self.job.command(state), *self.words]
        self._process = subprocess.Popen(command, env=followed(), preexec_fn=_ignore_submitit_signal)
        try:
            _await(self._process)
        except KeyboardInterrupt:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Let the run save and stop, and queue this job again; submitit calls it shortly before the time limit."""
        import submitit

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            _await(self._process)
        return submitit.helpers.DelayedSubmission(ClusterJob(self.job, self.program, self.words))


def _await(process: subprocess.Popen[bytes]) -> None:
    """Wait without ``Popen.wait``: a signal handler that interrupts it could never take its lock."""
    with contextlib.suppress(ChildProcessError):  # already reaped
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _ignore_submitit_signal() -> None:
    """Ignore submitit's signal in the run, because SLURM may send it to every process of the job."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass
class ClusterProcess:
    """A submitted job."""

    job: Any

    @property
    def log(self) -> Path:
        """Output of the first task."""
        return Path(self.job.paths.stdout)

    def poll(self) -> int | None:
        """Return the exit status of the run, None while it is queued or runs; 1 if the job itself failed."""
        if not self.job.done():
            return None
        if self.job.exception() is not None:
            return 1
        status: int = self.job.result()
        return status

    def failure(self, status: int) -> str:
        """Return the last line of the log that names an error, else submitit's own message."""
        output = self.log.read_text(errors="replace") if self.log.is_file() else ""
        error = self.job.exception()
        return reason(output if output.strip() or error is None else str(error), status=status)

    def interrupt(self) -> None:
        """Cancel the job: SLURM sends SIGTERM, on which a run saves."""
        self.job.cancel(check=False)

    kill = interrupt  # a cluster ends a cancelled job itself


@dataclass
class ClusterLauncher:
    """Submits runs to a cluster.

    Attributes:
        cluster: slurm or local.
        folder: for submitit's files and the list of submitted jobs.
        limit: jobs submitted at a time.
        parameters: parameters of submitit, such as ``slurm_partition``, ``gpus_per_node``, ``nodes``, ``timeout_min``.
        program: command that the arguments of a run follow.

    Raises:
        ConfigError: submitit is not installed, does not know a parameter, or finds no cluster.
    """

    cluster: str
    folder: Path
    limit: int
    parameters: dict[str, Any]
    program: tuple[str, ...] = PROGRAM
    _executor: Any = field(init=False)

    def __post_init__(self) -> None:
        """Make the executor."""
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError("--cluster: submitit is not installed; pip install submitit, or gestalt-grouping[slurm]")
        import submitit

        tasks = {"tasks_per_node": self.parameters["gpus_per_node"]} if self._one_task_a_gpu() else {}
        try:
            python = {f"{self.cluster}_python": f"{shlex.quote(sys.executable)} -P"}
            self._executor = submitit.AutoExecutor(folder=self.folder / "%j", cluster=self.cluster, **python)
            self._executor.update_parameters(**{**DEFAULTS, **tasks, "stderr_to_stdout": True, **self.parameters})
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
            raise ConfigError(f"--cluster {self.cluster}: {' '.join(str(error).split())}") from error

    @property
    def detached(self) -> bool:
        """True on SLURM, whose jobs outlive the process that submitted them."""
        return self.cluster == "slurm"

    def start(self, job: Job, *, state: State, slot: int) -> ClusterProcess:
        """Submit a run, or return the job that an earlier call submitted for it."""
        path = self.folder / "submitted.json"
        submitted: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
        if job.key in submitted:
            earlier = self._executor.job_class(self.folder / "%j", submitted[job.key])
            if not earlier.done():
                return ClusterProcess(earlier)
        submission = self._executor.submit(ClusterJob(job, self.program, self._words(job)))
        with replacing(path) as partial:
            partial.write_text(json.dumps({**submitted, job.key: submission.job_id}, indent=1))
        return ClusterProcess(submission)

    def _one_task_a_gpu(self) -> bool:
        """Return True on SLURM, where Lightning expects a task for each GPU; elsewhere it starts its processes itself."""
        return self.cluster == "slurm" and "gpus_per_node" in self.parameters and "tasks_per_node" not in self.parameters

    def _words(self, job: Job) -> tuple[str, ...]:
        """Return the overrides for devices and nodes of the cluster, unless the run sets them itself."""
        overridden = {word.partition("=")[0] for word in job.words}
        return tuple(f"{key}={self.parameters[name]}" for key, name in FOLLOWS.items() if name in self.parameters and key not in overridden)


def read_parameters(words: list[str]) -> dict[str, Any]:
    """Parse ``KEY=value`` words for submitit.

    Raises:
        ConfigError: a word has another form.
    """
    parameters = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise ConfigError(f"--submitit {word}: expected KEY=value, such as slurm_partition=gpu, gpus_per_node=8 or timeout_min=600")
        parameters[key] = yaml.safe_load(value)
    return parameters
