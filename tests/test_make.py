"""The Makefile: what its targets run."""

import os
import re
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_ci_runs_every_test_but_the_nightly_ones_once():
    """Without the variables of a ``make`` that runs this test."""
    *_, command = (ROOT / ".ci" / "run").read_text().splitlines()
    words = [*shlex.split(command), "--dry-run"]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not re.findall(r"python3? -m", done.stdout)  # which imports of the working directory
    assert re.findall(r"-m pytest -m \"(.*?)\" -n logical", done.stdout) == [
        "not slow and not gpu and not nightly",
        "(slow or gpu) and not nightly",
    ]
