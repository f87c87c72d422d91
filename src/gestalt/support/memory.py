"""Settings of glibc's allocator for this process."""

import ctypes
import sys
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
