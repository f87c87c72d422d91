"""Memory that a step frees is there for the next."""

import subprocess
import sys

import pytest

from tests.gestalt.command import environment

FAULTS = """
import resource, sys
from gestalt.support.memory import keep_freed_memory
keep_freed_memory()
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(48 * 2**20)
    del block
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_large_blocks_are_reused_without_new_page_faults(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    first, *later = map(int, done.stdout.split())
    assert max(later) <= max(8, first // 8)
