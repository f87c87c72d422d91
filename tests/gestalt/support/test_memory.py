"""Memory that a step frees is there for the next."""

import subprocess
import sys

import pytest

from gestalt.support.memory import keep_freed_memory
from tests.gestalt.command import environment

FAULTS = """
import resource, sys
from gestalt.support.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(48 * 2**20)
    del block
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(words, folder):
    """Pages that the kernel gave for each of three blocks of 48 MiB."""
    done = subprocess.run([sys.executable, "-c", FAULTS, words], cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_large_blocks_are_reused_without_new_page_faults(tmp_path):
    pages = 48 * 2**20 // 4096
    assert min(faults("mapped", tmp_path)) > pages // 2 or max(faults("mapped", tmp_path)) < pages // 8  # the latter with huge pages
    first, *later = faults("kept", tmp_path)
    assert max(later) <= max(8, first // 8)


def test_keeping_freed_memory_does_nothing_on_another_operating_system(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
