"""The processes that are started for others."""

import subprocess
from pathlib import Path

import pytest

from gestalt.ablation.launchers import PROGRAM, ClusterLauncher
from tests.gestalt.command import environment


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder with files that are named as modules which a command imports."""
    for name in ("argparse", "yaml", "torch"):
        (tmp_path / f"{name}.py").write_text(
            "raise SystemExit('code of the working directory ran')\n"
        )
    return tmp_path


def test_a_run_of_a_grid_imports_no_module_of_the_working_directory(strange):
    done = subprocess.run(
        [*PROGRAM, "list", "aggregations"],
        cwd=strange,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "max" in done.stdout


def test_a_job_of_a_cluster_imports_no_module_of_the_working_directory(tmp_path):
    pytest.importorskip("submitit", reason="pip install submitit")
    launcher = ClusterLauncher("local", tmp_path / "jobs", 1, {})
    assert launcher._executor._executor.python.endswith(" -P")
