"""Warm processes: ``run`` and ``Warm`` start Python as ``subprocess`` does, from one process that
has imported the heavy libraries.

Those imports take longer than most commands that the tests run.  The process that is forked imports
other people's libraries only and computes nothing: every run reads the code of this project anew,
has an environment, a working directory, a session and a random state of its own, and can be killed.
The Python processes that it starts (ranks, the runs of a grid) are warm too: it forks ``SPARES`` of
itself before it begins to work, and these are its children as the started ones would be.  What must
be as a user starts it (launchers, a first run) goes through ``subprocess`` itself.
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
from contextlib import suppress
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

SHARED = "TESTS_WARM"
"""Environment variable: the address of the process that all pytest workers share."""

SPARES = 4  # of a process; the next that it starts is cold
_SPARES: list[tuple[int, int]] = []  # process id, and the descriptor that its request is written to


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
        self._socket.connect(start())
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
def start() -> str:
    """Start the process that is forked, unless the one that started this pytest worker has.

    Returns:
        Its address, which can be connected to at once.  It ends with the process that started it.
    """
    if SHARED in os.environ:
        return os.environ[SHARED]
    folder = tempfile.mkdtemp()
    address = f"{folder}/warm"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__, str(listener.fileno())],
        env={
            **inherited,
            "OMP_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        },  # no threads: they do not survive a fork
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=[listener.fileno()],
    )
    listener.close()

    def stop() -> None:
        server.kill()
        server.wait()
        shutil.rmtree(folder)

    atexit.register(stop)
    return address


def _serve(listener: socket.socket, *, owner: int) -> dict[str, Any]:
    """Fork for each request until the owner has ended, however; returns in the processes that are
    to run one.
    """
    listener.settimeout(1.0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            if os.getppid() == owner:
                continue
            shutil.rmtree(Path(listener.getsockname()).parent)
            os._exit(0)
        if os.fork():
            connection.close()
            continue
        # this process is a keeper: it waits for a run and reports its exit status
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        request: dict[str, Any] = json.loads(connection.makefile().readline())
        if (pid := os.fork()) == 0:
            connection.close()
            os.setsid()
            return request
        connection.sendall(f"{pid}\n".encode())
        connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())
        os._exit(0)


def _take_over(request: dict[str, Any], *, path: list[str]) -> None:
    """Take over the folder, environment, outputs and path of the request."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, output in enumerate(request["outputs"], start=1):
        if isinstance(output, str):
            file = os.open(output, os.O_WRONLY | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        elif output >= 0:
            os.dup2(output, number)
    safe = bool(os.environ.get("PYTHONSAFEPATH"))
    if request["words"][0] == "-P":
        safe = True
        del request["words"][0]
    kind = request["words"][0]
    folder = str(Path(kind).resolve().parent) if kind not in ("-m", "-c") else os.getcwd()
    sys.path[:] = [
        *([] if safe else [folder]),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        *path,
    ]
    # which took its rank from the environment when it was imported
    rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))


def _stock() -> dict[str, Any] | None:
    """Fork spares.  Returns None at once in this process, and its request in a spare that is
    called.
    """
    while _SPARES:  # those of the process that this was a spare of
        os.close(_SPARES.pop()[1])
    for _ in range(SPARES):
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(write)
            for _, descriptor in _SPARES:
                os.close(descriptor)
            _SPARES.clear()
            with os.fdopen(read) as file:
                text = file.read()
            if not text:  # the process that it was kept for has ended
                os._exit(0)
            request: dict[str, Any] = json.loads(text)
            if request["session"]:
                os.setsid()
            return request
        os.close(read)
        _SPARES.append((pid, write))
    return None


class WarmPopen(subprocess.Popen):  # type: ignore[type-arg]
    """``Popen`` that calls a spare where the program is Python."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        _, prepare, _, descriptors, cwd, env, *_ = rest
        umask, session, group = rest[-3:]
        words = [str(word) for word in args] if isinstance(args, list | tuple) else []
        streams = [_stream(rest[number]) for number in (9, 12, 14)]
        # inherited descriptors: of the compiling processes of torch
        special = prepare or descriptors or umask != -1 or group != -1
        piped = any(isinstance(stream, str) and stream[0] != "/" for stream in streams)
        if words[:1] != [sys.executable] or special or piped or not _SPARES:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        self.pid, descriptor = _SPARES.pop()
        self._child_created = True
        request = {
            "words": words[1:],
            "cwd": str(cwd or os.getcwd()),
            "env": dict(os.environ if env is None else env),
            "outputs": streams[1:],
            "session": session,
        }
        with os.fdopen(descriptor, "w") as file:
            json.dump(request, file)


def _stream(descriptor: int) -> int | str:
    """Return a standard stream, or -1 for the inherited one, as it is, and another file by its
    path, since this process closes it at once; of a pipe the path does not begin with a slash.
    """
    return descriptor if descriptor <= 2 else os.readlink(f"/proc/self/fd/{descriptor}")


def _begin(kind: str, *words: str) -> None:
    """Run ``python KIND WORDS``, after a ``sitecustomize`` in the path, as Python does."""
    sys.argv = [kind, *words] if kind not in ("-m", "-c") else [kind, *words[1:]]
    sys.modules.pop("sitecustomize", None)
    with suppress(ImportError):
        import_module("sitecustomize")
    if kind == "-c":
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    owner, path = os.getppid(), sys.path[1:]
    for library in LIBRARIES:
        import_module(library)
    from lightning_utilities.core.rank_zero import rank_zero_only

    assert len(os.listdir("/proc/self/task")) == 1 or sys.platform != "linux", (
        "a process with threads must not be forked"
    )
    gc.freeze()
    request: dict[str, Any] | None = _serve(socket.socket(fileno=int(sys.argv[1])), owner=owner)
    while request is not None:
        _take_over(request, path=path)
        words, request = request["words"], _stock()
    subprocess.Popen = WarmPopen  # type: ignore[misc]
    _begin(*words)
