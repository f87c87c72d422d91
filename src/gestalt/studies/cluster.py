"""Runs as jobs of a cluster, submitted through submitit: SLURM, or its local executor, which takes the same way on one machine."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gestalt.config.schema import ConfigError
from gestalt.studies.jobs import State, Training, Work
from gestalt.studies.local import PROGRAM, reason
from gestalt.support.files import replacing

CLUSTERS = ("slurm", "local")
DEFAULTS: dict[str, Any] = {"timeout_min": 24 * 60}  # submitit's own are five minutes on SLURM and two on one machine
FOLLOWS = {"trainer.devices": "gpus_per_node", "trainer.num_nodes": "nodes"}
"""What Lightning must be told of what the cluster gives."""


@dataclass
class Job:
    """What runs on the cluster: looks where the run stands, goes on with it, and is submitted again when it is pre-empted.

    Attributes:
        work: the run.
        program: what its words follow.
        words: more overrides, behind the run's own.
    """

    work: Work
    program: tuple[str, ...]
    words: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run it, and return its exit status; its output is the job's."""
        state = self.work.look()
        if state.kind == "finished":
            return 0
        command = [*self.program, *self.work.command(state), *self.words]
        self._process = subprocess.Popen(command, preexec_fn=_leave_submitits_signal)
        try:
            _await(self._process)
        except KeyboardInterrupt:
            self._process.send_signal(signal.SIGINT)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Called by submitit before the time is over: the run saves and stops, and this job is queued again."""
        import submitit

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            _await(self._process)
        return submitit.helpers.DelayedSubmission(Job(self.work, self.program, self.words))


def _await(process: subprocess.Popen[bytes]) -> None:
    """Wait without ``Popen.wait``, whose lock a signal handler that interrupts it could never take."""
    with contextlib.suppress(ChildProcessError):  # reaped already
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _leave_submitits_signal() -> None:
    """SLURM may send it to every process of the job; only the one that answers it may be reached."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@dataclass
class ClusterProcess:
    """A submitted job."""

    job: Any

    @property
    def log(self) -> Path:
        """The first task's output."""
        return Path(self.job.paths.stdout)

    def poll(self) -> int | None:
        """The run's exit status, None while it is queued or works; 1 where the job itself failed."""
        if not self.job.done():
            return None
        if self.job.exception() is not None:
            return 1
        status: int = self.job.result()
        return status

    def why(self, status: int) -> str:
        """The last line of the log that names an error, else what submitit says."""
        said = self.log.read_text(errors="replace") if self.log.is_file() else ""
        error = self.job.exception()
        return reason(said if said.strip() or error is None else str(error), status=status)

    def interrupt(self) -> None:
        """Cancel: SLURM sends SIGTERM, at which a run saves."""
        self.job.cancel(check=False)

    def kill(self) -> None:
        """The same; a cluster ends a cancelled job by itself."""
        self.job.cancel(check=False)


@dataclass
class ClusterLauncher:
    """Submits runs.

    Attributes:
        cluster: slurm or local.
        folder: of submitit's files, and of the list of what was submitted.
        limit: how many are submitted at a time.
        parameters: submitit's own, such as ``slurm_partition``, ``gpus_per_node``, ``nodes``, ``timeout_min``.
        program: what the words of a run follow.

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
        """Find the cluster."""
        if importlib.util.find_spec("submitit") is None:
            raise ConfigError("--cluster: submitit is not installed; pip install submitit, or gestalt-grouping[slurm]")
        import submitit

        tasks = {"tasks_per_node": self.parameters["gpus_per_node"]} if self._one_task_a_gpu() else {}
        try:
            self._executor = submitit.AutoExecutor(folder=self.folder / "%j", cluster=self.cluster)
            self._executor.update_parameters(**{**DEFAULTS, **tasks, "stderr_to_stdout": True, **self.parameters})
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
            raise ConfigError(f"--cluster {self.cluster}: {' '.join(str(error).split())}") from error

    @property
    def detached(self) -> bool:
        """SLURM's jobs outlive the process that submitted them."""
        return self.cluster == "slurm"

    def start(self, work: Work, *, state: State, slot: int) -> ClusterProcess:
        """Submit a run, or take up the job that an earlier call submitted for it."""
        path = self.folder / "submitted.json"
        submitted: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
        key = f"{work.stem} {work.hash if isinstance(work, Training) else work.run}"
        if key in submitted:
            earlier = self._executor.job_class(self.folder / "%j", submitted[key])
            if not earlier.done():
                return ClusterProcess(earlier)
        job = self._executor.submit(Job(work, self.program, self._words(work)))
        _write(path, {**submitted, key: job.job_id})
        return ClusterProcess(job)

    def _one_task_a_gpu(self) -> bool:
        """On SLURM Lightning expects a task a GPU; elsewhere it starts its processes itself."""
        return self.cluster == "slurm" and "gpus_per_node" in self.parameters and "tasks_per_node" not in self.parameters

    def _words(self, work: Work) -> tuple[str, ...]:
        """Overrides that say what the cluster gives, where the run does not say it."""
        said = {word.partition("=")[0] for word in work.words}
        return tuple(f"{key}={self.parameters[name]}" for key, name in FOLLOWS.items() if name in self.parameters and key not in said)


def read_parameters(words: list[str]) -> dict[str, Any]:
    """``KEY=value`` words for submitit.

    Raises:
        ConfigError: a word is something else.
    """
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise ConfigError(f"--submitit {word}: KEY=value is needed, such as slurm_partition=gpu, gpus_per_node=8 or timeout_min=600")
        found[key] = yaml.safe_load(value)
    return found


def _write(path: Path, submitted: dict[str, str]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(submitted, indent=1))
