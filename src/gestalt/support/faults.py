"""Describe errors that a user can cause or fix in one line: where, the reason and the fix.  Also
the warning class for caveats.
"""

import errno
import os
import re

MENDS = {
    errno.ENOSPC: "the disk is full; free some space or write elsewhere",
    errno.EDQUOT: "your quota of this disk is used up; free some space or write elsewhere",
    errno.EFBIG: (
        "larger than the file system or `ulimit -f` allows; raise the limit or write elsewhere"
    ),
    errno.EROFS: (
        "the file system is read-only; write elsewhere, runs by starting in another folder"
    ),
    errno.EACCES: (
        "no permission; change the permissions or name another path, for runs by starting in "
        "another folder"
    ),
    errno.EPERM: (
        "not permitted; change the permissions or name another path, for runs by starting in "
        "another folder"
    ),
    errno.ENAMETOOLONG: "the name is too long for the file system; shorten it",
    errno.ENOENT: "not found; check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; name another path",
    errno.EISDIR: "a folder where a file is expected; name a file",
    errno.EEXIST: "exists already; name another path",
    errno.ELOOP: "symbolic links that point at each other; correct them or name another path",
    errno.EMFILE: "too many open files; raise `ulimit -n` or lower data.workers",
    errno.ENFILE: "too many open files on this machine; close some programs or lower data.workers",
    errno.EIO: "the disk cannot be read or written; check it, or copy the files to another",
    errno.ESTALE: "a network file system dropped the file; run the command again",
    errno.ENOMEM: (
        "the machine is out of memory; close some programs, or lower data.batch_size or "
        "data.workers"
    ),
    errno.EAGAIN: (
        "the system starts no further process or thread; lower data.workers or raise `ulimit -u`"
    ),
}
"""System error number -> reason and fix."""

DEAD_WORKER = re.compile(r"DataLoader worker \(pid|A process in the process pool was terminated")
"""Start of the messages of torch and of Python for a loading process that has ended.  The system
kills loading processes if memory runs out.
"""

KILLED = (
    "a loading process was killed, as the system does when memory runs out; lower data.workers and "
    "run the same command again"
)


class StoppedRun(RuntimeError):
    """The work of all ranks was stopped.  The message states the reason and what to change."""


def describe(error: Exception) -> str | None:
    """Return a line that describes an error; None for a bug of this program, which keeps its
    traceback.
    """
    text = str(error)
    if "Original Traceback" in text:  # torch puts it before a worker's message
        text = (re.findall(r"^[\w.]+: (.+)$", text, flags=re.MULTILINE) or [text])[-1]
    if isinstance(error, ValueError):
        return _one_line(text)
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
    ):
        return (
            "out of memory: lower data.batch_size and raise trainer.accumulate_grad_batches by the "
            f"same factor, or lower evaluation.batch_size ({_one_line(text)[:200]})"
        )
    if isinstance(error, RuntimeError) and DEAD_WORKER.match(text):
        return f"{KILLED} ({_one_line(text)})"
    # This is the form that a loading process or a library in Rust writes.
    number = re.search(r"\[Errno (\d+)\]|\(os error (\d+)\)", text)
    code = int(number[1] or number[2]) if number else None
    place = None
    if isinstance(error, OSError):
        code = error.errno or code
        place = error.filename
    elif code is None:
        return None
    named = re.search(r"'([^']+)'\s*$", text)
    somewhere = f"a file (runs lie under {os.path.abspath('lightning_logs')})"
    place = place or (named and named[1]) or somewhere
    if isinstance(place, bytes):
        place = os.fsdecode(place)
    reason = os.strerror(code) if code else _one_line(text)
    return f"{place}: {MENDS.get(code or 0, reason)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


class Caveat(UserWarning):
    """A fact about a model or its labels without which a result misleads."""
