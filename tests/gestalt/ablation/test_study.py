"""A grid runs unfinished cells, resumes stopped ones, records failures, and compares the rest."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gestalt.__main__ import main, parse
from gestalt.ablation.grid import read_grid
from gestalt.ablation.launchers import LocalLauncher, reason, shares
from gestalt.ablation.study import Study
from gestalt.commands.ablate import plan, run
from gestalt.runs import locks
from gestalt.support.process import Interrupted
from gestalt.support.typed import ConfigError
from tests.gestalt.ablation.fake_run import COMMANDS, FAKE

MAX, AVG, CLS = (f"image.aggregation={name}" for name in ("max", "avg", "cls"))


pytestmark = pytest.mark.usefixtures("fakes")


class Here(LocalLauncher):
    """Starts fake runs in this process, each of which has ended when it is looked at first."""

    def start(self, job, state, slot):
        command, *words = job.command(state)
        status = COMMANDS[command](words)
        return SimpleNamespace(log=None, poll=lambda: status)


def study(
    name="aggregation",
    *,
    seeds=1,
    jobs=1,
    allow_mixed=False,
    launcher=Here,
    **words,
):
    """A grid over fake runs."""
    grid = read_grid(name, scale="tiny", **words)
    folder = Path("page")
    return Study(
        grid,
        seeds,
        launcher(jobs, folder / "logs"),
        folder,
        allow_mixed=allow_mixed,
    )


def started():
    """The overrides of every run that was started, in order."""
    path = Path("started.txt")
    return path.read_text().splitlines() if path.exists() else []


def entries():
    """``cells.json`` by cell and seed."""
    return {
        (entry["cell"], entry["seed"]): entry
        for entry in json.loads(Path("page/cells.json").read_text())["runs"]
    }


def test_a_grid_runs_every_cell_once_and_a_second_call_runs_nothing(capsys):
    other = Path("lightning_logs/clippy_dino_max/tiny/version_0")
    other.mkdir(parents=True)
    (other / "result.json").write_text('{"format": 1, "config_hash": "of another run"}')
    page = study().run()
    assert [next(word for word in line.split() if "aggregation" in word) for line in started()] == [
        MAX,
        AVG,
        CLS,
    ]
    assert "| max | 1 | 0.4" in page
    capsys.readouterr()
    assert study().run() == page
    assert len(started()) == 3
    assert capsys.readouterr().err.count("finished before") == 3


def test_failed_cells_are_recorded_with_their_reasons_and_the_rest_go_on(monkeypatch):
    monkeypatch.setenv("FAKE", f"fail:{AVG} die:{CLS}")
    made = study(launcher=LocalLauncher)
    page = made.run()
    assert len(made.queue.failures) == 2
    assert entries()["avg", 0]["status"] == "failed"
    assert entries()["avg", 0]["reason"] == "ValueError: no such luck"
    assert "| avg | 0 | no result" in page
    assert "avg, seed 0: failed: ValueError: no such luck" in page
    assert entries()["cls", 0]["reason"] == "killed by SIGKILL; last output: no output"
    assert entries()["max", 0]["status"] == "finished"
    monkeypatch.setenv("FAKE", f"silent:{AVG}")
    again = study()
    again.run()
    (failure,) = again.queue.failures
    assert failure.startswith("avg, seed 0: failed: it ended without an error and without a result")
    assert len(started()) == 5
    assert entries()["cls", 0]["status"] == "finished"


def interrupt():
    """Ctrl-C once a run hangs."""

    def wait():
        while not Path("hangs").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait).start()


def test_ctrl_c_lets_the_runs_save_and_the_same_call_goes_on_in_their_folders(monkeypatch):
    monkeypatch.setenv("FAKE", f"hang:{AVG}")
    before = signal.getsignal(signal.SIGINT)
    interrupt()
    with pytest.raises(Interrupted, match="SIGINT") as stop:
        study(launcher=LocalLauncher).run()
    assert str(stop.value).startswith(
        "stopped by SIGINT; all jobs have stopped, and the same command"
    )
    assert stop.value.signal_number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    stopped = next(
        folder
        for folder in Path("lightning_logs/clippy_dino_max/tiny").iterdir()
        if (folder / "checkpoints").exists()
    )
    assert "gestalt: stopped by SIGINT" in Path("page/logs/avg_seed0.log").read_text()
    study().run()
    assert len(started()) == 4
    assert f"resume={stopped}" in started()[2]
    assert (stopped / "result.json").exists()


def test_a_run_in_another_process_is_waited_for_and_not_started_twice(monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE", f"hang:{CLS}")
    made = study(overrides=("trainer.max_steps=3",))
    job = next(job for job in made.reported() if job.cell == "cls")
    orphan = subprocess.Popen([*FAKE, *job.command(job.read_state())])
    while not Path("hangs").exists():
        time.sleep(0.02)
    assert job.read_state().kind == "busy"
    seen = []

    def say(line):
        seen.append(line)
        if "waiting" in line:
            orphan.send_signal(signal.SIGINT)

    monkeypatch.setattr("gestalt.ablation.queue.tell", say)
    made.run()
    orphan.wait()
    assert any("another process trains it in" in line for line in seen)
    assert [line for line in started() if CLS in line][1].endswith(
        f"resume={job.read_state().folder}"
    )


def test_jobs_share_the_cores_and_devices(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert shares(1, slot=0) == {}
    assert shares(2, slot=1) == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "1"}
    assert shares(2, slot=0) == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0,2"}
    assert shares(5, slot=4) == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "1"}


def test_each_cell_uses_its_best_value_on_the_tuning_split_and_is_identified_in_the_file():
    made = study(seeds=2, choose=("optimizer.learning_rate=0.001,0.002,0.004",))
    page = made.run()
    tried = [line for line in started() if "evaluation.split=tune" in line]
    reported = [line for line in started() if "evaluation.split=tune" not in line]
    assert len(tried) == 9
    assert all("seed=0" in line for line in tried)
    assert len(reported) == 6
    assert all("optimizer.learning_rate=0.002" in line for line in reported)
    assert (
        "avg: chosen optimizer.learning_rate=0.002 by scenes/miou on the tuning split, seed 0"
        in page
    )
    grid = json.loads(Path("page/cells.json").read_text())
    assert [run["tuning"] for run in grid["runs"]] == [True] * 9 + [False] * 6
    assert [run["config_hash"] for run in grid["runs"][:9]] == [job.hash for job in made.tuning()]


def test_further_test_sizes_are_scored_once_a_run():
    made = study("token_subsampling")
    page = made.run()
    assert "### scenes/miou, tested at 32 px" in page
    assert "### scenes/miou, tested at 64 px" in page
    assert Path("page/resolution.png").exists()
    logs = len(list(Path("lightning_logs").glob("*/*/*/evaluations/*.json")))
    assert logs == 4
    study("token_subsampling").run()
    assert len(list(Path("lightning_logs").glob("*/*/*/evaluations/*.json"))) == 4


def test_compare_and_report_take_the_folder_of_the_page_and_name_its_cells(
    tmp_path, monkeypatch, capsys
):
    study("token_subsampling", seeds=2).run()
    for kind, name in (("--csv", "table.csv"), ("--latex", "table.tex")):
        assert main(["compare", "page", kind]) == 0
        assert capsys.readouterr().out == Path("page", name).read_text()
    monkeypatch.chdir("/")  # from anywhere
    folder, output = str(tmp_path / "page"), tmp_path / "all.html"
    assert main(["report", folder, "--output", str(output)]) == 0
    page = output.read_text()
    assert ">scenes/miou, tested at 32 px</p>" in page
    assert page.count(">difference, over seeds</th>") == 6  # two metrics in three views
    (tmp_path / "page" / "page.json").write_text("{")
    assert main(["compare", folder]) == 2
    assert "page.json: damaged" in capsys.readouterr().err


def test_finished_runs_of_another_commit_stop_a_grid_before_it_spends_hours(monkeypatch):
    study().run()
    monkeypatch.setattr("gestalt.ablation.study.commit", lambda: "facade")
    assert "| avg | 1 |" in study().run()  # nothing is left to run
    with pytest.raises(
        ConfigError, match=r"finished cells are of commit c0ffee, this is facade.*--allow-mixed"
    ):
        study(seeds=2).run()
    assert len(started()) == 3
    study(seeds=2, allow_mixed=True).run()
    assert len(started()) == 6


def test_a_dry_run_lists_finished_runs_and_estimates_the_remaining_time():
    assert plan(study())[-1] == "3 of 3 runs to come; time unknown until one is finished"
    study().run()
    lines = plan(study(seeds=2, jobs=2))
    assert [line.split()[0] for line in lines[:6]] == ["finished"] * 3 + ["new"] * 3
    assert lines[-1] == "3 of 6 runs to come; about 2 min 15 s"
    assert plan(study())[-1] == "0 of 3 runs to come; nothing to do"
    assert len(started()) == 3


def test_two_processes_never_run_one_grid():
    folder = Path("lightning_logs/ablations/aggregation/tiny")
    folder.mkdir(parents=True)
    code = (
        f"import fcntl, sys; file = open('{folder}/.lock', 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    arguments = parse(["ablate"])
    arguments.checked = read_grid("aggregation", scale="tiny")
    with pytest.raises(ConfigError, match="another process runs this grid"):
        run(arguments)
    other.communicate()
    locks.hold(folder / ".lock", busy="").close()


def test_the_reason_is_the_last_line_that_names_an_error():
    assert (
        reason("gestalt: image.init=x: bad (--debug shows where)\n", status=2)
        == "image.init=x: bad"
    )
    assert (
        reason("step 1\ntorch.OutOfMemoryError: 3 GiB\n\nsee the docs\n", status=1)
        == "torch.OutOfMemoryError: 3 GiB"
    )
    assert reason("", status=1) == "no output"
    assert reason("step 1\n", status=-9) == "killed by SIGKILL; last output: step 1"
