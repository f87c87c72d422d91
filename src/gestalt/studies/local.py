"""Runs as processes of this machine, which share its cores and GPUs."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gestalt.studies.jobs import State, Work

PROGRAM = (sys.executable, "-m", "gestalt")
ERROR = re.compile(r"(gestalt: |[\w.]*(Error|Exception|Interrupt|Exit|Loss|Interrupted)\b)")
"""How the line starts that says what went wrong."""


@dataclass
class LocalProcess:
    """A run under way here.

    Attributes:
        popen: the process, in a session of its own, so that a terminal's Ctrl-C reaches it once, and through us.
        log: what it says, after what earlier attempts said.
        begins: where its own words begin in the log, in bytes.
    """

    popen: subprocess.Popen[bytes]
    log: Path
    begins: int

    def poll(self) -> int | None:
        """The exit status, None while it works."""
        return self.popen.poll()

    def why(self, status: int) -> str:
        """Its last line that names an error."""
        with self.log.open("rb") as file:
            file.seek(self.begins)
            return reason(file.read().decode(errors="replace"), status=status)

    def interrupt(self) -> None:
        """As Ctrl-C does: the run finishes its step and saves."""
        self.popen.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        self.popen.kill()


@dataclass
class LocalLauncher:
    """Starts runs here.

    Attributes:
        limit: how many at a time; each gets its share of the cores, and of the GPUs where there are several.
        logs: folder of the log files.
        program: what the words of a run follow.
    """

    limit: int
    logs: Path
    program: tuple[str, ...] = PROGRAM
    detached: bool = False

    def start(self, work: Work, *, state: State, slot: int) -> LocalProcess:
        """Start a run; its output goes to the end of its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{work.stem}.log"
        command = work.command(state)
        with log.open("ab") as file:
            file.write(f"$ gestalt {' '.join(command)}\n".encode())
            file.flush()
            begins = file.tell()
            popen = subprocess.Popen(
                [*self.program, *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **shares(self.limit, slot=slot)},
                start_new_session=True,
            )
        return LocalProcess(popen, log, begins)


def shares(jobs: int, *, slot: int) -> dict[str, str]:
    """Environment variables that divide the machine among ``jobs`` processes; nothing for a single one."""
    if jobs == 1:
        return {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = min(threads, int(os.environ["OMP_NUM_THREADS"]))
    devices = visible_devices()
    mine = devices[slot % len(devices) :: jobs] if devices else []
    return {"OMP_NUM_THREADS": str(threads), **({"CUDA_VISIBLE_DEVICES": ",".join(mine)} if mine else {})}


def visible_devices() -> list[str]:
    """The GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def reason(text: str, *, status: int) -> str:
    """One line on why a process failed: the last that names an error, else its last one; the signal where one ended it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    said = (errors or lines or ["it said nothing"])[-1].removeprefix("gestalt: ").removesuffix(" (--debug shows where)")
    return f"killed by {signal.Signals(-status).name}; it last said: {said}" if status < 0 else said
