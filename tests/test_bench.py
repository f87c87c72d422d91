"""``make bench`` runs, as it is started, and what it compares agrees; how fast anything is, is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def bench(*words: str) -> str:
    """What it prints."""
    done = subprocess.run([sys.executable, "tests/bench", *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_parts_can_be_imported_from_where_make_starts_it():
    assert "--only" in bench("--help")


@pytest.mark.slow
def test_both_ways_of_evaluation_say_the_same_in_a_tenth_of_the_memory(tmp_path: Path):
    bench("--only", "evaluation", "--json", str(tmp_path / "found.json"))
    rows = json.loads((tmp_path / "found.json").read_text())["evaluation"]
    assert min(row["same_pixels"] for row in rows) > 0.9999
    assert [row["memory"] < 0.1 for row in rows if "171" in row["case"]] == [True, True]
