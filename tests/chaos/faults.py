"""Faults, struck at a moment of a run.  The run's code is unchanged: functions are wrapped when
their module is imported.

The environment variable ``GESTALT_CHAOS`` holds a ``Strike`` as JSON.  Whichever process first
reaches the moment is struck, once. Nothing heavy is imported here: every Python process of a run
imports this module.
"""

import errno
import functools
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "GESTALT_CHAOS"
SLOW_SECONDS = 2.0
ROOM = 1_000_000  # bytes of a file that still fit on a disk that is filling: part of a checkpoint
SIGNALS = ("SIGKILL", "SIGTERM", "SIGUSR1")
READERS = ("slow reader", "failing reader")
READ_ERRORS = ("ESTALE", "ETIMEDOUT", "ECONNRESET", "EHOSTDOWN")
"""Failures of a network file system.  EIO is not one: it marks the sample as bad, and the run goes
on without it, as it promises.
"""


@dataclass(frozen=True)
class Strike:
    """A fault and its moment.

    Attributes:
        fault: one of a row of ``tests.chaos.matrix``.
        place: MODULE:FUNCTION, wrapped in each process that imports the module.
        call: number of the call that is struck, from 1.
        moment: before the call, or inside: when its file is written and not yet renamed.
        marker: file that is made at the strike; another process finds it and does not strike.
        rank: local rank that strikes.
        victim: self, parent, or group: every process that works in the folder.
        command: a word of the command line of the process that strikes; empty for any.
        error: name of the failing reader's error.
        folder: what becomes read-only.
    """

    fault: str
    place: str
    call: int
    marker: str
    moment: str = "before"
    rank: int = 0
    victim: str = "self"
    command: str = ""
    error: str = "ESTALE"
    folder: str = ""

    def variable(self) -> dict[str, str]:
        """The environment variable of this strike."""
        return {VARIABLE: json.dumps(asdict(self))}


def arm() -> None:
    """Wrap the place of this process's strike, now or as soon as its module is imported."""
    strike = Strike(**json.loads(os.environ[VARIABLE]))
    if strike.rank != int(os.environ.get("LOCAL_RANK", "0")) or strike.command not in (
        "",
        *sys.argv,
        *sys.orig_argv,
    ):
        return
    name, function = strike.place.split(":")
    if name in sys.modules:
        wrap(sys.modules[name], function, strike)
    else:
        sys.meta_path.insert(0, WrapOnImport(name, lambda module: wrap(module, function, strike)))


def wrap(module: ModuleType, function: str, strike: Strike) -> None:
    """Replace the function, ``NAME`` or ``CLASS.NAME``, by one whose chosen call is struck."""
    *owners, name = function.split(".")
    owner: Any = functools.reduce(getattr, owners, module)
    original, calls = getattr(owner, name), 0

    @functools.wraps(original)
    def struck(*args: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != strike.call:
            return original(*args, **keywords)
        if strike.moment == "inside":
            wrap(os, "fsync", replace(strike, moment="before", call=1))
        else:
            hit(strike)
        return original(*args, **keywords)

    setattr(owner, name, struck)


def hit(strike: Strike) -> None:
    """Do it, unless another process has."""
    try:
        Path(strike.marker).touch(exist_ok=False)
    except FileExistsError:
        return
    if strike.fault in SIGNALS:
        for process in victims(strike.victim):
            os.kill(process, signal.Signals[strike.fault])
        time.sleep(0.01)  # until Python runs the handler
        return
    {
        "full disk": fill_disk,
        "filling disk": lambda: fill_disk(ROOM),
        "read-only folder": lambda: forbid_writing(Path(strike.folder)),
        "dead worker": kill_worker,
        "slow reader": lambda: time.sleep(SLOW_SECONDS),
        "failing reader": lambda: fail_to_read(strike.error),
    }[strike.fault]()


def victims(victim: str) -> list[int]:
    """Process ids, this process's last."""
    if victim == "parent":
        return [os.getppid()]
    return (
        [os.getpid()]
        if victim == "self"
        else [*(pid for pid in working_in(Path.cwd()) if pid != os.getpid()), os.getpid()]
    )


def working_in(folder: Path) -> list[int]:
    """Return the processes, zombies left out, whose working directory is this folder."""
    pids = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if os.readlink(f"/proc/{entry.name}/cwd") == str(folder.resolve()):
                    pids.append(int(entry.name))
            except OSError:  # it has ended, or is another user's
                continue
    return pids


def fill_disk(room: int = 0) -> None:
    """From now on the kernel refuses every write of this process beyond this many bytes of a file;
    pipes still take the message.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.truncate",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.utime",
)


def forbid_writing(folder: Path) -> None:
    """From now on this process cannot change what lies in the folder, as after a file system was
    mounted read-only.
    """
    prefix = f"{folder.resolve()}{os.sep}"

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        )
        if (
            changes
            and isinstance(arguments[0], str | os.PathLike)
            and os.path.abspath(os.fspath(arguments[0])).startswith(prefix)
        ):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(arguments[0]))

    sys.addaudithook(refuse)


def kill_worker() -> None:
    """Kill a loading process of this process, or this process if it is one."""
    import multiprocessing

    workers = multiprocessing.active_children()
    os.kill(
        os.getpid() if multiprocessing.parent_process() else int(workers[0].pid or 0),
        signal.SIGKILL,
    )
    time.sleep(0.1)  # until it is gone


def fail_to_read(name: str) -> None:
    number = getattr(errno, name)
    raise OSError(number, os.strerror(number), "a file of the corpus")


class WrapOnImport(importlib.abc.MetaPathFinder):
    """Calls a function with a module as soon as it has been imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self.name = name
        self.then = then

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own spec, whose loader calls the function at its end."""
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            self.then(module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec
