"""The processes that are started for others."""

import subprocess
from pathlib import Path

import pytest

from gestalt.config.loading import load
from gestalt.config.schema import ConfigError
from gestalt.pretraining import make_init
from gestalt.pretraining.init_file import InitFile
from gestalt.studies.cluster import ClusterLauncher
from gestalt.studies.running import PROGRAM
from tests.gestalt.command import environment


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder with files that are named as modules which a command imports."""
    for name in ("argparse", "omegaconf", "yaml", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('code of the working directory ran')\n")
    return tmp_path


def test_a_run_of_a_grid_imports_no_module_of_the_working_directory(strange: Path) -> None:
    done = subprocess.run([*PROGRAM, "list", "aggregations"], cwd=strange, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "max" in done.stdout


def test_pretraining_an_init_imports_no_module_of_the_working_directory(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(strange)
    monkeypatch.setattr(make_init, "_run", lambda command: subprocess.run(command[:-1], env=environment(), check=False).returncode)
    with pytest.raises(ConfigError, match="pretraining ended with status 2"):  # of argparse: its last word is missing
        make_init.ensure(InitFile(strange / "dino_0.safetensors", {}), load("clippy_dino_max", scale="tiny"))


def test_a_job_of_a_cluster_imports_no_module_of_the_working_directory(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="pip install submitit")
    launcher = ClusterLauncher("local", tmp_path / "jobs", 1, {})
    assert launcher._executor._executor.python.endswith(" -P")
