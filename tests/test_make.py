"""The Makefile: what its targets run."""

import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPREAD = ["-n", "logical", "--maxprocesses", "8", "--dist", "worksteal"]


def _lines(*words: str) -> list[list[str]]:
    """The pytest lines that ``make`` would run."""
    return [line.rpartition("pytest")[2].split() for line in _dry_run(*words) if "pytest" in line]


def _dry_run(*words: str) -> list[str]:
    """The lines that ``make`` would run, without the variables of a ``make`` that runs this test."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_ci_runs_every_test_but_the_nightly_ones_once():
    (command,) = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert _lines(*command.split()[1:]) == [
        ["-m", *['"not', "slow", "and", "not", "gpu", "and", "not", 'nightly"'], *SPREAD],
        ["-m", *['"(slow', "or", "gpu)", "and", "not", 'nightly"'], *SPREAD],
    ]


def command_of(*words: str) -> list[str]:
    """The words of the command line that ``make`` would run."""
    line = [line for line in _dry_run(*words) if "-m gestalt " in line][-1]
    return shlex.split(line.partition("-m gestalt ")[2])


def test_targets_run_their_commands():
    assert command_of("train", "EXP=a", "SCALE=tiny", "ARGS=seed=1") == ["train", "a", "--scale", "tiny", "seed=1"]
    assert command_of("ablate", "SEEDS=3", "JOBS=2")[2:] == ["--scale", "demo", "--seeds", "3", "--jobs", "2"]
    assert command_of("eval", "CKPT=run") == ["eval", "run"]
    scored = command_of("eval", "CKPT=run", "BENCH=scenes", "PROTOCOL=whole_square", "ARGS=--sizes 224,336")
    assert scored == ["eval", "run", "evaluation.benchmarks=[scenes]", "evaluation.protocol=whole_square", "--sizes", "224,336"]
    segmented = command_of("segment", "IMAGE=a.jpg", "LABELS=dog, cat", "CKPT=run")
    assert segmented == ["segment", "a.jpg", "--labels", "dog, cat", "--model", "run"]
    assert command_of("report", "RUNS=a b") == ["report", "a", "b"]
