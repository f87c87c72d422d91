"""Settings of glibc's allocator for this process."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt, in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next step or image.  Returns True if this C library can.

    Otherwise large tensors are mapped anew each time, and the kernel clears every page, which takes a tenth of the processor time of the
    demo, and a fifth of that of evaluating photographs on a CPU.
    Results stay equal bit by bit; the process keeps its peak memory.  It does not concern an accelerator's memory.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library, such as musl
        return False
    return bool(set_option(MMAP_MAX, 0) and set_option(TRIM_THRESHOLD, 2**31 - 1))
