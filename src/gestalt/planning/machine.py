"""The memory, cores and disk space of this machine."""

import os
import shutil
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def memory_room(device: torch.device) -> int:
    """Return the bytes that this process may use in all: of the accelerator, or of the machine, within its container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    page = os.sysconf("SC_PAGE_SIZE")
    used = _resident(page)
    return used + min(_available(page), _left_in_container())


def _resident(page: int) -> int:
    """Return the bytes of this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page
    except OSError:
        return 0


def _available(page: int) -> int:
    """Return the machine's available bytes: free or reclaimable."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * page


def _left_in_container() -> int:
    """Return the bytes that the control group leaves; 2^62 without a limit."""
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # no such file, or "max"
        return 2**62


def cores_for_each(processes: int) -> int:
    """Return the cores of this machine for each of some processes, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


def disk_room(folder: Path) -> int:
    """Return the free bytes of the disk that a folder, which may not exist yet, lies on."""
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(place).free
