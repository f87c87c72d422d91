"""How long the threads of a computation on the CPU wait for each other."""

import os

WAIT = "3000"
"""Turns of the loop in which a thread of GNU's OpenMP, torch's on Linux, waits for the others
before it sleeps; its own default is 300,000.

Beside other processes a waiting thread takes the core from the one it waits for.  On two cores with
six other processes a step of the demo took 0.39 of its time with the default, and on idle cores no
longer than with it (experiments/LOG.md).
"""


def shorten_wait() -> None:
    """Set the wait for this process and its children, unless the user chose one.  Without effect
    once torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", WAIT)
