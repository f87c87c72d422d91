"""A rank that hangs ends the other within a stated time, with one line."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gestalt.command import environment
from tests.gestalt.training.losing import TIMEOUT

PROGRAM = str(Path(__file__).with_name("losing.py"))
MARGIN = 30  # seconds that a busy machine may take beyond the stated time


@pytest.mark.slow
def test_a_rank_that_hangs_ends_the_other_within_the_timeout(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [[sys.executable, PROGRAM, str(rank), str(port)] for rank in range(2)]
    whole, hanging = (
        subprocess.Popen(word, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
        for word in words
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "in_a_step").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        _, stderr = whole.communicate(timeout=TIMEOUT + MARGIN)
        assert whole.returncode == 1, stderr
        assert (
            f"gestalt: rank 0: another rank has ended, or did not answer within {TIMEOUT} s; see "
            "the last line of each rank" in stderr
        )
        assert "Traceback" not in stderr
    finally:
        for process in (whole, hanging):
            process.kill()
            process.communicate()
    assert hanging.returncode == -signal.SIGKILL
