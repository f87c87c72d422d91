"""Signals that ask the program to stop, at any point; processes that end with their parent; free
memory; the wait of threads.
"""

import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from gestalt.support.process import (
    GRACE,
    PARENT,
    RANK,
    STOPPING,
    TICK,
    WAIT,
    Interrupted,
    defer,
    first_rank,
    handle,
    stop,
)
from tests.gestalt.command import environment


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_raises_interrupted_in_the_main_code(number):
    before = signal.getsignal(number)
    with (
        pytest.raises(Interrupted, match=f"^stopped by {number.name}$") as stopped,
        handle(*STOPPING, by=stop),
    ):
        os.kill(os.getpid(), number)
    assert stopped.value.signal_number == number
    assert signal.getsignal(number) is before


def test_a_library_that_catches_every_exception_does_not_swallow_it():
    def download() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            raise AssertionError("swallowed") from None

    with pytest.raises(Interrupted), handle(*STOPPING, by=stop):
        download()


def test_during_imports_a_signal_is_deferred_to_their_end():
    done = []

    def load() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append("imported")

    with pytest.raises(Interrupted, match="SIGUSR1"), handle(*STOPPING, by=stop), defer():
        load()
    assert done == ["imported"]


def test_a_second_signal_has_the_default_handler():
    handlers = []

    def load() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        handlers.append(signal.getsignal(signal.SIGTERM))

    with pytest.raises(Interrupted), handle(*STOPPING, by=stop), defer():
        load()
    assert handlers == [signal.SIG_DFL]


LIMIT = 10  # seconds, as docs/training.md promises
FOLLOWER = """
import signal, sys, time
from pathlib import Path
from gestalt.support import process
def save(number, frame):
    Path("saved").touch()
    sys.exit(0)
if sys.argv[1] != "hangs":
    signal.signal(signal.SIGTERM, save)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] != "saves":
    process.GRACE = 1.0
process.follow()
Path("started").touch()
time.sleep(60)
"""
HELD = """
import os, time
from pathlib import Path
from gestalt.support.process import PARENT, end_with
end_with(int(os.environ[PARENT]))
Path("started").touch()
time.sleep(60)
"""
PARENT_CODE = """
import subprocess, sys
from gestalt.support.process import follow_environment
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


FAULTS = """
import resource, sys
from gestalt.support.process import keep_freed_memory
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


CODE = """
import atexit, os, sys
import gestalt.__main__ as command
from gestalt.support import process
shorten = process.shorten_wait
count = lambda: os.environ.get('GOMP_SPINCOUNT')
process.shorten_wait = lambda: (shorten(), print('torch' in sys.modules, count()))
class Cycle:
    def __init__(self): self.itself = self
    def __del__(self): print('collected', file=sys.stderr)
left = Cycle()
atexit.register(lambda: print('hook', file=sys.stderr))
command.main(['list', 'inits'])
"""


@pytest.mark.parametrize(
    ("chosen", "wait"),
    [({}, WAIT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=str,
)
def test_a_command_waits_briefly_unless_the_user_chose_otherwise_and_ends_at_once(chosen, wait):
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environment, **chosen},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.splitlines()[0] == f"False {wait}"
    assert result.stderr == "hook\n"  # and no last collection


@pytest.mark.parametrize(
    ("launcher", "lightning", "first"),
    [
        ({}, None, True),
        ({"RANK": "1", "LOCAL_RANK": "0"}, None, False),
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "3"}, None, True),
        ({"SLURM_PROCID": "3"}, None, False),
        ({"RANK": "0"}, 1, False),
        ({"RANK": "1"}, 0, True),
    ],
)
def test_the_first_rank_is_lightnings_or_before_its_import_the_launchers(
    launcher, lightning, first, monkeypatch
):
    for name in RANK:
        monkeypatch.delenv(name, raising=False)
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    module = "lightning.pytorch.utilities.rank_zero"
    if lightning is None:
        monkeypatch.delitem(sys.modules, module, raising=False)
    else:
        monkeypatch.setattr(import_module(module).rank_zero_only, "rank", lightning)
    assert first_rank() is first
