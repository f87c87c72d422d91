"""The process that makes an init: a signal to the one that waits for it ends both."""

import os
import signal
import sys
import threading
import time

import pytest

from gestalt.pretraining import make_init

CHILD = """
import signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path(sys.argv[1]).write_text(str(number))
    sys.exit(int(sys.argv[2]))
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
Path(sys.argv[1] + ".started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("status", [0, 130])
def test_a_signal_that_only_this_process_got_is_passed_on_and_ends_both(tmp_path, number, status):
    told = tmp_path / "told"

    def tell():
        while not (tmp_path / "told.started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=tell).start()
    assert make_init._run([sys.executable, "-c", CHILD, str(told), str(status)]) == 128 + number
    assert told.read_text() == str(int(number))
    assert signal.getsignal(number) == before


def test_without_a_signal_the_status_is_the_childs():
    assert make_init._run([sys.executable, "-c", "raise SystemExit(7)"]) == 7
