"""Spare processes: forks of a process that has not begun to work, which become the next ``gestalt``
that it starts.

A run starts others: ranks, the runs of a grid, the making of an init.  Each would import the heavy
libraries anew, which takes longer than everything that the chaos matrix makes it do.  A spare is a
child of the process that starts it, as the process would be that it stands for: it has its
arguments, environment, folder, output and session.
"""

import json
import os
import subprocess
import sys
from typing import Any

COUNT = 3  # a process starts no more than this in the matrix; the next would start cold
_SPARES: list[tuple[int, int]] = []  # process id, and the descriptor that its request is written to


def stock() -> dict[str, Any] | None:
    """Fork spares.  Returns None at once in this process, and its request in a spare that is
    called.
    """
    while _SPARES:
        os.close(_SPARES.pop()[1])
    for _ in range(COUNT):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write)
            for _, descriptor in _SPARES:
                os.close(descriptor)
            _SPARES.clear()
            with os.fdopen(read) as file:
                text = file.read()
            if not text:  # the process that it was kept for has ended
                os._exit(0)
            return json.loads(text)  # type: ignore[no-any-return]
        os.close(read)
        _SPARES.append((pid, write))
    subprocess.Popen = Started  # type: ignore[misc]
    return None


def become(request: dict[str, Any]) -> None:
    """Take over the arguments and the surroundings of the process that was asked for."""
    if request["session"]:
        os.setsid()
    if request["group"] is not None and request["group"] >= 0:
        os.setpgid(0, request["group"])
    for number, output in enumerate(request["outputs"], start=1):
        if isinstance(output, str):
            descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, number)
            os.close(descriptor)
        elif output >= 0:
            os.dup2(output, number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[1:] = request["words"]
    # which took its rank from the environment when it was imported
    if "lightning_utilities.core.rank_zero" in sys.modules:
        from lightning_utilities.core.rank_zero import rank_zero_only

        rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))  # type: ignore[attr-defined]


def _output(descriptor: int) -> int | str:
    """Return a standard output, or -1 for the inherited one, as it is, and another file by its
    path: this process closes it at once.
    """
    return descriptor if descriptor <= 2 else os.readlink(f"/proc/self/fd/{descriptor}")


class Started(subprocess.Popen):  # type: ignore[type-arg]
    """``Popen`` that calls a spare where the program is this one."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        words = _words(args)
        (_, prepare, _, _, cwd, env, *_), session, group = rest, *rest[-2:]
        if words is None or prepare is not None or not _SPARES:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        self.pid, descriptor = _SPARES.pop()
        self._child_created = True
        request = {
            "words": words,
            "cwd": cwd or os.getcwd(),
            "env": dict(os.environ if env is None else env),
        }
        with os.fdopen(descriptor, "w") as file:
            json.dump(
                {
                    **request,
                    "outputs": [_output(rest[12]), _output(rest[14])],
                    "group": group,
                    "session": session,
                },
                file,
            )


def _words(args: Any) -> list[str] | None:
    """Return the words behind ``gestalt``; None for another program."""
    if not isinstance(args, list | tuple) or args[0] != sys.executable:
        return None
    rest = [str(word) for word in args[1:]]
    if rest[:3] == ["-P", "-m", "gestalt"]:
        return rest[3:]
    return rest[1:] if rest[0] == os.path.abspath(sys.argv[0]) else None
