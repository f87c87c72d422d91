"""The short form of the chaos matrix, and the laws of the matrix itself.  All cells: ``make chaos``."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.cell import left_over, orphans, run_cell, undisturbed
from tests.chaos.faults import FAULTS
from tests.chaos.leavings import Leavings
from tests.chaos.matrix import PHASES, SHORT, Cell, cells, reason

BY_NAME = {cell.name: cell for cell in cells()}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


@pytest.fixture(scope="module")
def references():
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_command_hit_by_a_fault_and_rerun_gives_the_undisturbed_result(name, references, tmp_path_factory):
    cell = BY_NAME[name]
    parent = tmp_path_factory.mktemp("chaos")
    if cell.reference not in references:
        references[cell.reference] = undisturbed(cell.reference, parent=parent)
    assert run_cell(cell, seed=0, parent=parent, reference=references[cell.reference]).faults == []


def test_every_fault_and_phase_has_a_cell_or_a_reason_without_one():
    for ranks in (1, 2):
        for phase in PHASES:
            for fault in FAULTS:
                listed = [cell for cell in cells() if (cell.phase, cell.fault, cell.ranks) == (phase, fault, ranks)]
                assert bool(listed) != bool(reason(phase, fault, ranks=ranks)), (phase, fault, ranks)


def test_the_moment_comes_from_the_seed(tmp_path):
    drawn = [BY_NAME["step, SIGKILL, 1 rank"].strike(seed=seed, marker=tmp_path, folder=tmp_path) for seed in (0, 0, *range(1, 9))]
    assert drawn[0] == drawn[1]
    assert len({strike.call for strike in drawn}) > 3


def test_a_fault_at_a_call_that_never_happens_leaves_no_marker(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    never = replace(Cell("pack", "SIGKILL").strike(seed=0, marker=tmp_path / "struck", folder=folder), call=10**6)
    code = "from tests.chaos.faults import arm, hit; arm()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **never.variable(), "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0
    assert not (tmp_path / "struck").exists()


def test_an_orphaned_process_is_reported_and_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.chaos.cell.GRACE", 0.2)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path) as process:
        (fault,) = orphans(tmp_path)
        assert process.wait(timeout=5) < 0
    assert "1 processes outlived it" in fault


def test_a_leftover_partial_file_is_reported(tmp_path):
    (tmp_path / "last.ckpt.1.partial").touch()
    assert left_over(tmp_path) == ["left last.ckpt.1.partial"]


RECORD = {"weights_sha256": "a", "metrics": {}, "steps": 8, "loss": 1.0, "best": None, "overrides": ["seed=1"]}


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"c": {**RECORD, "weights_sha256": "b"}}, "another weights_sha256"),
        ({"c": {**RECORD, "overrides": []}}, "lacks the overrides"),
        ({}, "config c: no record"),
        ({"c": RECORD, "d": RECORD}, "config d: an unexpected record"),
    ],
)
def test_a_differing_record_is_reported(other, told):
    line = ("train", "seed=1")
    assert Leavings({"c": RECORD}).differences(Leavings({"c": RECORD}), line=line) == []
    (fault,) = Leavings({"c": RECORD}).differences(Leavings(other), line=line)
    assert told in fault


def test_the_page_gives_a_verdict_for_every_cell():
    text = PAGE.read_text()
    for ranks in (1, 2):
        start = text.index(f"| {ranks} rank{'s' * (ranks > 1)} |")
        rows = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in text[start:].split("\n\n")[0].splitlines()}
        assert list(rows)[2:] == list(PHASES)
        for phase in PHASES:
            for fault, entry in zip(FAULTS, rows[phase], strict=True):
                assert (entry.strip() == "-") == bool(reason(phase, fault, ranks=ranks)), (phase, fault, ranks)
