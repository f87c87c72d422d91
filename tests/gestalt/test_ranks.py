"""One process, many ranks, many nodes: the same numbers."""

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gestalt.measures.evaluation.pictures import EXTREMES
from gestalt.support.files import file_hash
from tests import warm
from tests.gestalt.command import (
    TRAIN,
    TWO_RANKS,
    environment,
    killed,
    refused,
    result,
    same,
    succeed,
)

pytestmark = pytest.mark.slow
LOGGED = f"{TRAIN} logger=[lightning.pytorch.loggers.CSVLogger]"
KEEP_PROMPTS = str(Path(__file__).with_name("keep_prompts.py"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    succeed(LOGGED, folder=folder)
    return folder


def counts(folder, number):
    (path,) = folder.glob(f"lightning_logs/*/*/version_0/evaluations/{number}.json")
    return [benchmark.get("counts") for benchmark in json.loads(path.read_text())["benchmarks"]]


def hashes(folder, number):
    """Of what each image contributed, of confusion matrices, and of the best and worst images with
    their predictions.
    """
    (path,) = folder.glob(f"lightning_logs/*/*/version_0/evaluations/{number}.json")
    arrays = {name: said["sha256"] for name, said in json.loads(path.read_text())["arrays"].items()}
    return arrays, {
        file.name: file_hash(file) for file in (path.with_suffix("") / EXTREMES).iterdir()
    }


def close(one, other):
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert one["metrics"]["scenes/miou"] == pytest.approx(other["metrics"]["scenes/miou"], abs=2e-3)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    return folder, succeed(f"{LOGGED} {TWO_RANKS}", folder=folder)


def test_two_ranks_train_to_the_same_result_as_one(alone, together):
    folder, done = together
    close(result(folder), result(alone))
    assert done.stdout.count("scenes/miou ") == 1
    assert len(list(folder.glob("lightning_logs/*/*/*"))) == 1


def logged(folder):
    """The rows of the only CSV that a run's logger wrote: step to the values of that step."""
    (path,) = folder.glob("**/metrics*.csv")
    with path.open() as file:
        return [
            (row["step"], {key: float(value) for key, value in row.items() if value})
            for row in csv.DictReader(file)
        ]


def close_rows(rows, expected):
    assert [(step, set(values)) for step, values in rows] == [
        (step, set(values)) for step, values in expected
    ]
    for (_, values), (_, those) in zip(rows, expected, strict=True):
        assert [
            values[key] for key in ("train/loss", "scenes/miou") if key in values
        ] == pytest.approx(
            [those[key] for key in ("train/loss", "scenes/miou") if key in those],
            rel=1e-3,
            abs=2e-3,
        )


def test_two_ranks_log_the_rows_of_one_rank_without_duplicates(alone, together):
    rows = logged(alone)
    assert len([step for step, values in rows if "train/loss" in values]) == 8
    close_rows(logged(together[0]), rows)


def test_a_run_killed_on_one_rank_resumes_on_two(alone, tmp_path):
    killed("step 6", LOGGED, folder=tmp_path)
    succeed(f"{LOGGED} {TWO_RANKS} resume=last", folder=tmp_path)
    close(result(tmp_path), result(alone))
    close_rows(logged(tmp_path), logged(alone))


EVAL = (
    "eval lightning_logs/clippy_dino_max/tiny/version_0 evaluation.limit=13 "
    "trainer.enable_progress_bar=false"
)
MORE = "evaluation.benchmarks=[scenes,scenes_matching,scenes_classification,scenes_waterbirds]"
CNN = (
    "image.backbone=tf_efficientnet_lite0 image.family=cnn image.keep_tokens=1.0 "
    "image.eval_size=64 image.train_size=64 image.stem=patch image.patch_size=null "
    "image.width=null image.depth=null image.heads=null"
)


@pytest.mark.parametrize(
    ("tower", "threads"),
    # one process with torch's default number of threads
    [("image.stem=conv", None), (CNN, 1)],
    ids=["vit_conv_stem", "cnn"],
)
def test_one_checkpoint_has_the_same_counts_on_one_two_and_three_ranks(
    tower, threads, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "3")
    succeed(f"{TRAIN} trainer.max_steps=2 {tower}", folder=tmp_path)
    for ranks in (1, 2, 3):
        strategy = "auto" if ranks == 1 else "ddp"
        succeed(
            f"{EVAL} trainer.devices={ranks} trainer.strategy={strategy} {MORE}",
            folder=tmp_path,
            threads=threads if ranks == 1 else 1,
        )
    first, second, third = (counts(tmp_path, number) for number in range(3))
    assert any(first)
    assert second == first
    assert third == first
    assert hashes(tmp_path, 1) == hashes(tmp_path, 0)
    assert hashes(tmp_path, 2) == hashes(tmp_path, 0)


def test_prompts_that_two_ranks_keep_give_the_counts_of_prompts_embedded_anew(
    alone, tmp_path, monkeypatch
):
    monkeypatch.setenv("GESTALT_CACHE", str(tmp_path))
    kept, two = [], (TWO_RANKS, (KEEP_PROMPTS,))
    for more, program in (("", ("-m", "gestalt")), two, two):
        succeed(f"{EVAL} {more}", folder=alone, program=program)
        kept.append({path.name: path.stat().st_ino for path in tmp_path.glob("prompts/*.npy")})
    assert kept[0] == {}
    assert kept[1]
    assert kept[2] == kept[1]  # read, not written again
    assert counts(alone, 1) == counts(alone, 2) == counts(alone, 0)
    assert hashes(alone, 1) == hashes(alone, 2) == hashes(alone, 0)


def test_two_nodes_under_torchrun_train_to_the_result_of_one_process(alone, tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    nodes = []
    for node in range(2):
        line = (
            "-m torch.distributed.run --nnodes 2 --nproc-per-node 1 --master-addr localhost "
            f"--master-port {port} --node-rank {node} -m gestalt {TRAIN} trainer.num_nodes=2 "
            "trainer.devices=1 trainer.strategy=ddp"
        )
        nodes.append(
            subprocess.Popen(
                [sys.executable, *line.split()],
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [node.communicate(timeout=900) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    close(result(tmp_path), result(alone))


def test_torchrun_restarts_a_run_whose_rank_was_killed_and_it_ends_as_if_undisturbed(
    together, tmp_path
):
    code = """
import os, signal, sys
from pathlib import Path
from gestalt.module import ContrastiveModule
from gestalt.__main__ import main
step = ContrastiveModule.training_step
def dying(self, batch, index):
    if self.global_step == 5 and self.global_rank == 1 and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index)
ContrastiveModule.training_step = dying
sys.exit(main(sys.argv[1:]))
"""
    (tmp_path / "dying.py").write_text(code)
    line = (
        "-m torch.distributed.run --standalone --nproc-per-node 2 --max-restarts 1 dying.py "
        f"{TRAIN} {TWO_RANKS} resume=auto"
    )
    # or ranks may read addresses of the attempt before
    own_store = environment() | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = warm.run([sys.executable, *line.split()], cwd=tmp_path, env=own_store, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed").exists()
    assert len(list(tmp_path.glob("lightning_logs/*/*/version_*"))) == 1
    same(result(tmp_path), result(together[0]))


def test_a_dead_rank_stops_the_job(tmp_path):
    code = """
import os, sys
from gestalt.module import ContrastiveModule
from gestalt.__main__ import main
step = ContrastiveModule.training_step
def dying(self, batch, index):
    if self.global_step == 2 and self.global_rank == 1:
        os._exit(7)
    return step(self, batch, index)
ContrastiveModule.training_step = dying
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
    (tmp_path / "dying.py").write_text(code)
    assert (
        "gestalt: rank 0: another rank has ended, or did not answer within 600 s; see the last "
        "line of each rank"
    ) in refused(f"{TRAIN} {TWO_RANKS}", folder=tmp_path, status=1, program=("dying.py",))
