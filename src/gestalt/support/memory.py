"""Memory: settings of glibc's allocator for this process, and what is free."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt, in glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step or image; without effect on other systems and C
    libraries.

    Otherwise large tensors are mapped anew each time, and the kernel clears every page, which takes
    a tenth of the processor time of the demo, and a fifth of that of evaluating photographs on a
    CPU. Results stay equal bit by bit; the process keeps its peak memory.  It does not concern an
    accelerator's memory.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):  # musl has none
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def free_memory() -> int:
    """Return the bytes of memory that are free, within the limit of a container."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):  # not Linux
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    with suppress(OSError, ValueError):  # no container, or no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        # pages of files that the kernel gives back
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(counts["inactive_file"]))
    return free
