"""``gestalt ablate`` on real runs: a killed grid ends with the results of an undisturbed one;
TensorBoard shows the sweep.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.gestalt.command import environment, succeed
from tests.gestalt.support.test_process import ends
from tests.warm import Warm

ABLATE = "ablate aggregation --scale tiny trainer.max_steps=2"
pytestmark = pytest.mark.slow


def results(folder):
    """Every run's folder that has a result, oldest first."""
    return sorted(folder.glob("lightning_logs/clippy_dino_max/tiny/version_*/result.json"))


def hparams(logs):
    """Keys of the parameters and metrics of every run below a folder, as TensorBoard's plugin reads
    them.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    found = []
    for folder in sorted({path.parent for path in logs.rglob("events*")}):
        events = EventAccumulator(str(folder)).Reload()
        contents = events.summary_metadata
        if metadata.SESSION_START_INFO_TAG in contents:
            start = plugin_data_pb2.HParamsPluginData.FromString(
                contents[metadata.SESSION_START_INFO_TAG].plugin_data.content
            )
            keys = [tag.partition("/")[2] for tag in events.Tags()["scalars"]]
            # a step has none
            metrics = {key for key in keys if "/iou/" not in key and not key.startswith("speed/")}
            found.append((set(start.session_start_info.hparams), metrics))
    return found


def children(process):
    """The runs that a process has started, each in a session of its own."""
    numbers = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(number) for number in numbers if os.getsid(int(number)) == int(number)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A grid of three cells that was killed with -9 while its second ran, which ends within ten
    seconds, and then called again.
    """
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "gestalt", *ABLATE.split()]
    first = Warm(command, cwd=folder, env=environment())
    deadline = time.monotonic() + 280
    while (
        time.monotonic() < deadline
        and len(list(folder.glob("lightning_logs/clippy_dino_max/tiny/version_*"))) < 2
    ):
        time.sleep(0.1)
    cells = children(first.pid)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=10)
    assert len(cells) == 1
    assert all(ends(cell, within=10) for cell in cells)
    before = [path.stat().st_mtime_ns for path in results(folder)]
    return folder, before, succeed(ABLATE, folder=folder)


def test_a_killed_grid_is_completed_by_repeating_at_most_the_running_cell(killed):
    folder, before, done = killed
    assert before
    assert [path.stat().st_mtime_ns for path in results(folder)][: len(before)] == before
    runs = len(list(folder.glob("lightning_logs/clippy_dino_max/tiny/version_*")))
    assert runs <= 3 + 1
    assert len({json.loads(path.read_text())["config_hash"] for path in results(folder)}) == 3
    for cell in ("max", "avg", "cls"):
        assert f"| {cell} | 1 | 0." in done.stdout
    assert all((path.parent / "predictions" / "scenes.npz").is_file() for path in results(folder))
    assert (folder / "lightning_logs/ablations/aggregation/tiny/montage.png").is_file()


def test_a_sweep_has_the_same_hparams_and_metrics_in_every_run(killed):
    found = hparams(killed[0] / "lightning_logs")
    assert len(found) >= 3
    assert all(one == found[0] for one in found)
    parameters, metrics = found[0]
    assert {
        "Aggregation",
        "Init",
        "Scale",
        "Seed",
        "optimizer.learning_rate",
        "optimizer.ema",
    } <= parameters
    assert "scenes/miou" in metrics
