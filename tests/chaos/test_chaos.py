"""The short form of the chaos matrix, and of how a fault strikes.  All cells: ``python -m
tests.chaos``.
"""

import os
import subprocess
import sys

import pytest

from tests.chaos.cell import run_cell, undisturbed
from tests.chaos.faults import Strike
from tests.chaos.matrix import CELLS, SHORT

BY_NAME = {cell.name: cell for cell in CELLS}


@pytest.fixture(scope="module")
def references():
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_command_hit_by_a_fault_and_rerun_gives_the_undisturbed_result(
    name, references, tmp_path_factory
):
    cell = BY_NAME[name]
    parent = tmp_path_factory.mktemp("chaos")
    if cell.reference not in references:
        references[cell.reference] = undisturbed(cell.reference, parent=parent)
    assert run_cell(cell, seed=0, parent=parent, reference=references[cell.reference]).faults == []


@pytest.mark.parametrize(
    "before", ["", "import colorsys; "], ids=["imported later", "imported before"]
)
def test_a_fault_strikes_at_its_call_and_one_at_a_call_that_never_happens_leaves_no_marker(
    before, tmp_path
):
    calls = "import colorsys; [print(colorsys.rgb_to_hsv(0, 0, n)[2]) for n in (1, 2, 3)]"
    code = f"{before}from tests.chaos.faults import arm; arm(); {calls}"
    for call, printed in ((2, "1\n"), (4, "1\n2\n3\n")):
        marker = tmp_path / str(call)
        strike = Strike("failing reader", "colorsys:rgb_to_hsv", call, marker=str(marker))
        variables = {**os.environ, **strike.variable(), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False
        )
        assert done.stdout == printed
        assert (done.returncode == 0, marker.exists(), "a file of the corpus" in done.stderr) == (
            (call == 4),
            (call == 2),
            (call == 2),
        )
