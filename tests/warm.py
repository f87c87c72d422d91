"""Warm processes: ``run`` and ``Warm`` start Python as ``subprocess`` does, from one process that
has imported the heavy libraries.

Those imports take longer than most commands that the tests run.  The process that is forked imports
other people's libraries only and computes nothing: every run reads the code of this project anew,
has an environment, a working directory and a random state of its own, and can be killed.  What must
be as a user starts it (several ranks, launchers, a first run) goes through ``subprocess`` itself.
"""

import atexit
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

LIBRARIES = (
    "torch",
    "lightning.pytorch",
    "timm",
    "sentence_transformers",
    "torchvision",
    "torch.utils.tensorboard",
)


class Warm:
    """A Python process under way.

    Args:
        command: as for ``subprocess``: ``[sys.executable, "-m" MODULE | "-c" CODE | FILE,
            words...]``.
        cwd: its working directory.
        env: its environment.
    """

    def __init__(self, command: list[str], *, cwd: Path, env: dict[str, str]) -> None:
        assert command[0] == sys.executable
        self._command = command
        self._outputs = [tempfile.NamedTemporaryFile(mode="w+", encoding="utf-8") for _ in range(2)]  # noqa: SIM115
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(_server())
        request = {
            "words": command[1:],
            "cwd": str(cwd),
            "env": env,
            "outputs": [output.name for output in self._outputs],
        }
        self._socket.sendall(f"{json.dumps(request)}\n".encode())
        self._answers = self._socket.makefile()
        self.pid = int(self._answers.readline())

    def communicate(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait for its end.  Kills it after ``timeout`` seconds, and raises what ``subprocess``
        would.
        """
        self._socket.settimeout(timeout)
        try:
            status = int(self._answers.readline())
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            for output in self._outputs:
                output.close()
            raise subprocess.TimeoutExpired(self._command, timeout) from None
        finally:
            self._answers.close()
            self._socket.close()
        return subprocess.CompletedProcess(self._command, status, *map(_taken, self._outputs))


def _taken(output: IO[str]) -> str:
    """Return the output of a process and delete its file."""
    with output:
        return output.read()


def run(
    command: list[str], *, cwd: Path, env: dict[str, str], timeout: float, **_: Any
) -> subprocess.CompletedProcess[str]:
    """Stand in for ``subprocess.run`` with captured text."""
    return Warm(command, cwd=cwd, env=env).communicate(timeout)


@cache
def _server() -> str:
    """The address of the process that is forked, which ends with this one."""
    folder = tempfile.mkdtemp()
    address = f"{folder}/warm"
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        env={
            **inherited,
            "OMP_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        },  # no threads: they do not survive a fork
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )

    def stop() -> None:
        server.kill()
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(stop)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the warm process did not start"
    return address


def _serve(address: str) -> dict[str, Any]:
    """Fork for each request, for ever; returns in the processes that are to run one."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        # this process is a keeper: it waits for a run and reports its exit status
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        request: dict[str, Any] = json.loads(connection.makefile().readline())
        if (pid := os.fork()) == 0:
            connection.close()
            return request
        connection.sendall(f"{pid}\n".encode())
        connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
        os._exit(0)


def _become(request: dict[str, Any], *, path: list[str]) -> None:
    """Take over folder, environment and command of the request."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, name in enumerate(request["outputs"], start=1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    (kind, *words), named = (
        request["words"],
        [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry],
    )
    sys.path[:] = [
        str(Path(kind).resolve().parent) if kind not in ("-m", "-c") else os.getcwd(),
        *named,
        *path,
    ]
    if kind == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [kind, *words]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    path = sys.path[1:]
    for library in LIBRARIES:
        import_module(library)
    assert len(os.listdir("/proc/self/task")) == 1 or sys.platform != "linux", (
        "a process with threads must not be forked"
    )
    gc.freeze()
    _become(_serve(sys.argv[1]), path=path)
