"""Memory: how the C library hands out what a training step asks for on a CPU."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt, in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, for the next step to take; whether this C library can.

    A step's large tensors would otherwise be mapped anew each time, and the kernel clears each page: a tenth of the demo's processor time.
    What is computed stays the same bit by bit, and the process holds on to its peak.  An accelerator's memory is not concerned.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library, such as musl
        return False
    return bool(set_option(MMAP_MAX, 0) and set_option(TRIM_THRESHOLD, 2**31 - 1))
