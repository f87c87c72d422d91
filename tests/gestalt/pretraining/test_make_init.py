"""The process that makes an init: a signal to the one that waits for it ends both."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from gestalt.config.loading import load
from gestalt.pretraining import make_init
from gestalt.pretraining.init_file import InitFile
from gestalt.support.parent import PARENT
from gestalt.training.checkpoints import Interrupted

CHILD = """
import signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path(sys.argv[1]).write_text(str(number))
    sys.exit(int(sys.argv[2]))
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGUSR1, stop)
Path(sys.argv[1] + ".started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("status", [0, 130])
def test_a_signal_to_the_parent_is_forwarded_to_the_child_and_ends_both(tmp_path, number, status):
    told = tmp_path / "told"

    def tell():
        while not (tmp_path / "told.started").exists() or signal.getsignal(number) == before:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    threading.Thread(target=tell, daemon=True).start()
    assert make_init._run([sys.executable, "-c", CHILD, str(told), str(status)]) == 128 + number
    assert told.read_text() == str(int(number))
    assert signal.getsignal(number) == before


def test_without_a_signal_the_exit_status_is_that_of_the_child():
    assert make_init._run([sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_the_process_that_makes_an_init_ends_with_the_one_that_waits_for_it():
    code = f"import os; raise SystemExit(os.environ.get({PARENT!r}) != str(os.getppid()))"
    assert make_init._run([sys.executable, "-c", code]) == 0


HOLDER = """
import fcntl, sys, time
from pathlib import Path
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
Path(sys.argv[1] + ".held").touch()
time.sleep(60)
"""


def test_a_scheduler_that_announces_its_time_limit_stops_the_run_that_waits_for_another_process(tmp_path):
    file = InitFile(tmp_path / "dino_0.safetensors", {})
    file.folder.mkdir()
    lock = file.folder / ".launch"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)]) as holder:

        def tell():
            while signal.getsignal(signal.SIGUSR1) == before:  # until it is handled: the system's action ends this process
                time.sleep(0.02)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGUSR1)

        while not lock.with_name(".launch.held").exists():
            time.sleep(0.02)
        before, config = signal.getsignal(signal.SIGUSR1), load("clippy_dino_max", scale="tiny")
        threading.Thread(target=tell, daemon=True).start()
        with pytest.raises(Interrupted) as stop:
            make_init.ensure(file, config)
        holder.kill()
    assert stop.value.signal_number == signal.SIGUSR1  # by which train queues the job again
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_scheduler_that_announces_its_time_limit_stops_the_run_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(make_init, "_run", lambda command: 128 + signal.SIGUSR1)
    file = InitFile(tmp_path / "dino_0.safetensors", {})
    with pytest.raises(Interrupted, match=r"SIGUSR1; saved .*last\.ckpt"):
        make_init.ensure(file, load("clippy_dino_max", scale="tiny"))
