"""Warm processes do what fresh ones do."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm
from tests.gestalt.command import environment

CODE = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['MINE'], 'torch' in sys.modules); print('told', file=sys.stderr); {}"


def both(tmp_path, code):
    """Results of ``subprocess`` and of a warm process for the same code."""
    words = {"cwd": tmp_path, "env": environment(MINE="7"), "capture_output": True, "text": True, "timeout": 60}
    return [run([sys.executable, "-c", CODE.format(code), "a", "b=1"], **words) for run in (subprocess.run, warm.run)]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["sys.exit(3)", "os.kill(os.getpid(), 9)", "raise ValueError('no')", "pass"])
def test_a_warm_process_has_the_exit_status_and_output_of_a_fresh_one(tmp_path, end):
    fresh, warmed = both(tmp_path, end)
    assert warmed.returncode == fresh.returncode
    assert warmed.stderr.splitlines()[0] == fresh.stderr.splitlines()[0] == "told"
    if "kill" not in end:
        assert warmed.stdout == fresh.stdout.replace("False", "True")
        assert f"['a', 'b=1'] {tmp_path} 7" in warmed.stdout


@pytest.mark.slow
def test_a_warm_process_is_killed_on_timeout(tmp_path):
    process = warm.Warm([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path, env=environment())
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=0.2)
    assert not any(Path(output.name).exists() for output in process._outputs)
    for _ in range(100):  # until its keeper has seen it end
        if not Path(f"/proc/{process.pid}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("it lives on")
