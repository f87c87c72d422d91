"""The Makefile: what its targets run."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _lines(*words: str) -> list[list[str]]:
    """The pytest lines that ``make`` would run."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return [line.rpartition("pytest")[2].split() for line in done.stdout.splitlines() if "pytest" in line]


def test_ci_runs_every_test_once():
    (command,) = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert _lines(*command.split()[1:]) == [["-m", '"not', 'slow"'], ["-m", "slow"]]


def test_test_all_by_itself_runs_every_test():
    assert _lines("test-all") == [[]]


def test_eval_scores_at_several_sizes_or_calibrates():
    def line(*words: str) -> list[str]:
        done = subprocess.run(["make", "-n", "eval", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if " eval " in line][-1].partition("gestalt eval ")[2].split()

    assert line("CKPT=run") == ["run"]
    assert line("CKPT=run", "SIZES=224,336", "BENCH=scenes") == ["run", '"evaluation.benchmarks=[scenes]"', "--sizes", "224,336"]
    assert line("MODEL=run", "CALIBRATE=scenes", "ARGS=--split tune") == ["run", "--calibrate", "scenes", "--split", "tune"]
