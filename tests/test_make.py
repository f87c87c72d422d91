"""The Makefile: what its targets run."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPREAD = ["-n", "logical", "--maxprocesses", "8", "--dist", "worksteal"]


def _lines(*words: str) -> list[list[str]]:
    """The pytest lines that ``make`` would run."""
    return [line.rpartition("pytest")[2].split() for line in _dry_run(*words) if "pytest" in line]


def _dry_run(*words: str) -> list[str]:
    """The lines that ``make`` would run, without the variables of a ``make`` that runs this
    test.
    """
    done = subprocess.run(
        ["make", "-n", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_ci_runs_every_test_but_the_nightly_ones_once():
    (command,) = [
        line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")
    ]
    assert _lines(*command.split()[1:]) == [
        ["-m", *['"not', "slow", "and", "not", "gpu", "and", "not", 'nightly"'], *SPREAD],
        ["-m", *['"(slow', "or", "gpu)", "and", "not", 'nightly"'], *SPREAD],
    ]
