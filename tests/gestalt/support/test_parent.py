"""A process that ends with the one that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gestalt.support.parent import GRACE, PARENT, TICK
from tests.gestalt.command import environment

LIMIT = 10  # seconds, as docs/training.md promises
FOLLOWER = """
import signal, sys, time
from pathlib import Path
from gestalt.support import parent
def save(number, frame):
    Path("saved").touch()
    sys.exit(0)
if sys.argv[1] != "hangs":
    signal.signal(signal.SIGTERM, save)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] != "saves":
    parent.GRACE = 1.0
parent.follow()
Path("started").touch()
time.sleep(60)
"""
HELD = """
import os, time
from pathlib import Path
from gestalt.support.parent import PARENT, end_with
end_with(int(os.environ[PARENT]))
Path("started").touch()
time.sleep(60)
"""
PARENT_CODE = """
import subprocess, sys
from gestalt.support.parent import follow_environment
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:]], env=follow_environment())
print(child.pid, flush=True)
child.wait()
"""


def ends(process: int, *, within: float) -> bool:
    """True if a process, nobody's child here, ends within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if ended(process):
            return True
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    return False


def ended(process: int) -> bool:
    """True of a zombie too, whose new parent has not asked for its status."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(") ")[2].startswith("Z")


def test_the_polling_interval_and_grace_period_fit_within_the_limit():
    assert TICK + GRACE < LIMIT


@pytest.mark.parametrize(
    "code", [(FOLLOWER, "saves"), (FOLLOWER, "hangs"), (HELD,)], ids=["saves", "hangs", "held"]
)
def test_a_killed_parent_takes_its_child_along(tmp_path, code):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT_CODE, *code],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    parent.kill()
    parent.communicate()
    assert ends(child, within=LIMIT)
    assert (tmp_path / "saved").exists() == (code[-1] == "saves")


@pytest.mark.parametrize("code", [(FOLLOWER, "saves"), (HELD,)], ids=["follower", "held"])
def test_a_child_whose_parent_is_already_dead_ends_at_once(tmp_path, code):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    child = environment(**{PARENT: str(dead.pid)})
    done = subprocess.run(
        [sys.executable, "-c", *code], cwd=tmp_path, env=child, timeout=LIMIT + 20
    )
    assert done.returncode != 0 or (tmp_path / "saved").exists()


@pytest.mark.slow
def test_the_warm_process_of_the_tests_ends_with_its_owner():
    code = "import os; from tests.warm import _server; print(_server(), flush=True); os._exit(0)"
    command = [sys.executable, "-c", code]
    owner = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True)
    folder = Path(owner.stdout.strip()).parent
    deadline = time.monotonic() + LIMIT
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
