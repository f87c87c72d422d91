"""Processes that are started for a grid, and runs submitted through submitit's local executor."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gestalt.ablation.grid import read_grid
from gestalt.ablation.jobs import Training
from gestalt.ablation.launchers import PROGRAM, ClusterJob, ClusterLauncher
from gestalt.ablation.study import Study
from gestalt.support.typed import ConfigError
from tests.gestalt.command import environment

submitit = pytest.importorskip("submitit", reason="pip install submitit")


pytestmark = pytest.mark.usefixtures("fakes")


def launcher(cluster="local", **parameters):
    """Where runs are submitted to."""
    return ClusterLauncher(cluster, Path("page/jobs"), 2, parameters)


@pytest.mark.slow
def test_a_grid_runs_through_submitit_and_a_failed_job_has_a_reason(monkeypatch):
    monkeypatch.setenv("FAKE", "fail:image.aggregation=avg")
    made = Study(read_grid("aggregation", scale="tiny"), 1, launcher(), Path("page"))
    page = made.run()
    assert made.queue.failures
    assert "| max | 1 |" in page
    assert "| avg | 0 | no result" in page
    (entry,) = [
        entry
        for entry in json.loads(Path("page/cells.json").read_text())["runs"]
        if entry["cell"] == "avg"
    ]
    assert entry["reason"] == "ValueError: no such luck"
    assert len(json.loads(Path("page/jobs/submitted.json").read_text())) == 3


@pytest.mark.slow
def test_a_job_that_is_to_stop_lets_the_run_save_and_is_queued_again(monkeypatch):
    monkeypatch.setenv("FAKE", "hang:image.aggregation=avg")
    grid = read_grid("aggregation", scale="tiny")
    work = Training(grid, "avg", seed=0)
    process = launcher().start(work, state=work.read_state(), slot=0)
    while not Path("hangs").exists():
        time.sleep(0.05)
    controller = process.job.job_id
    (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)  # what a cluster does before the time is over
    while process.poll() is None:
        time.sleep(0.1)
    assert process.poll() == 0
    started = Path("started.txt").read_text().splitlines()
    assert len(started) == 2
    assert "resume=" in started[1]
    assert work.read_state().kind == "finished"


def test_cluster_resources_become_trainer_overrides_unless_the_run_sets_them():
    grid = read_grid("aggregation", scale="tiny")
    work = Training(grid, "max", seed=0)
    made = launcher(gpus_per_node=4, nodes=1)
    assert made._words(work) == ("trainer.devices=4", "trainer.num_nodes=1")
    own = read_grid("aggregation", scale="tiny", overrides=("trainer.devices=2",))
    assert made._words(Training(own, "max", seed=0)) == ("trainer.num_nodes=1",)
    assert Training(grid, "max", seed=0).hash == Training(own, "max", seed=0).hash


def test_a_job_ignores_the_signal_of_submitit_while_it_runs():
    grid = read_grid("aggregation", scale="tiny")
    job = ClusterJob(
        Training(grid, "max", seed=0),
        (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGUSR2)"),
    )
    assert job() == 0
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_an_unusable_submitit_configuration_is_refused():
    with pytest.raises(ConfigError, match=r"--cluster local: .*gpu"):
        launcher(gpu=1)
    with pytest.raises(ConfigError, match=r"--cluster slurm: .*srun"):
        launcher("slurm")


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


def test_a_job_of_a_cluster_imports_no_module_of_the_working_directory():
    assert launcher()._executor._executor.python.endswith(" -P")
