"""A rank that hangs ends the other within a stated time, with one line."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.gestalt.command import await_start, environment
from tests.gestalt.training.losing import TIMEOUT
from tests.warm import Warm

PROGRAM = str(Path(__file__).with_name("losing.py"))
MARGIN = 30  # seconds that a busy machine may take beyond the stated time


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_other_within_the_timeout(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [[sys.executable, PROGRAM, str(rank), str(port)] for rank in range(2)]
    whole, hanging = (Warm(word, cwd=tmp_path, env=environment()) for word in words)
    try:
        await_start(tmp_path)
        done = whole.communicate(timeout=TIMEOUT + MARGIN)
    finally:
        os.kill(hanging.pid, signal.SIGKILL)
    assert done.returncode == 1, done.stderr
    assert (
        f"gestalt: rank 0: another rank has ended, or did not answer within {TIMEOUT} s; see "
        "the last line of each rank" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert hanging.communicate(timeout=10).returncode == -signal.SIGKILL
