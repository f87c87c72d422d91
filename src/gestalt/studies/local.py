"""Jobs as processes of this machine, which share its cores and GPUs."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gestalt.studies.jobs import Job, State
from gestalt.support.parent import followed

PROGRAM = (sys.executable, "-P", "-m", "gestalt")
"""Command of a run; -P: no module of the working directory stands in for one of a package."""
ERROR = re.compile(r"(gestalt: |[\w.]*(Error|Exception|Interrupt|Exit|Loss|Interrupted)\b)")
"""Start of a line that names an error."""


@dataclass
class LocalProcess:
    """A running process.

    Attributes:
        popen: the process, in a session of its own, so that Ctrl-C reaches it only through this program.
        log: its output, after that of earlier attempts.
        begins: offset of its output in the log, in bytes.
    """

    popen: subprocess.Popen[bytes]
    log: Path
    begins: int

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self.popen.poll()

    def failure(self, status: int) -> str:
        """Return the last line of its output that names an error."""
        with self.log.open("rb") as file:
            file.seek(self.begins)
            return reason(file.read().decode(errors="replace"), status=status)

    def interrupt(self) -> None:
        """Send SIGINT: the run finishes its step and saves."""
        self.popen.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self.popen.kill()


@dataclass
class LocalLauncher:
    """Starts runs as processes of this machine.

    Attributes:
        limit: runs at a time; each gets a share of the cores and of the GPUs.
        logs: folder of the log files.
        program: command that the arguments of a run follow.
    """

    limit: int
    logs: Path
    program: tuple[str, ...] = PROGRAM
    detached: bool = False

    def start(self, job: Job, *, state: State, slot: int) -> LocalProcess:
        """Start a run; its output is appended to its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{job.stem}.log"
        command = job.command(state)
        with log.open("ab") as file:
            file.write(f"$ gestalt {' '.join(command)}\n".encode())
            file.flush()
            begins = file.tell()
            popen = subprocess.Popen(
                [*self.program, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**followed(), **shares(self.limit, slot=slot)},
                start_new_session=True,
            )
        return LocalProcess(popen, log, begins)


def shares(jobs: int, *, slot: int) -> dict[str, str]:
    """Return the environment variables that divide the machine among ``jobs`` processes; empty for a single one."""
    if jobs == 1:
        return {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = min(threads, int(os.environ["OMP_NUM_THREADS"]))
    devices = visible_devices()
    share = devices[slot % len(devices) :: jobs] if devices else []
    return {"OMP_NUM_THREADS": str(threads), **({"CUDA_VISIBLE_DEVICES": ",".join(share)} if share else {})}


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def reason(text: str, *, status: int) -> str:
    """Return one line on why a process failed: the last line that names an error, else the last line, and the signal that ended it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    line = (errors or lines or ["no output"])[-1].removeprefix("gestalt: ").removesuffix(" (--debug shows where)")
    return f"killed by {signal.Signals(-status).name}; last output: {line}" if status < 0 else line
