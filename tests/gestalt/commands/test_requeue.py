"""A SLURM job signalled before its time limit is saved and requeued, and the same command resumes
it to an identical result.
"""

import os
import signal
import sys

import pytest
import torch

from tests.gestalt.command import (
    SLOW_STEPS,
    SLURM,
    TINY,
    ended_by,
    environment,
    result,
    same,
    succeed,
)
from tests.warm import Warm

TRAIN = f"train clippy_dino_max {TINY} resume=auto"
JOB = {**SLURM, "SLURM_RESTART_COUNT": "0"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    succeed(TRAIN, folder=folder)
    return folder


def in_a_job(*program, line=TRAIN, folder):
    """Start ``PROGRAM LINE`` as SLURM does, with a fake ``scontrol`` that logs its arguments."""
    scontrol = folder / "bin" / "scontrol"
    if not scontrol.exists():
        scontrol.parent.mkdir()
        scontrol.write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol.log\n')
        scontrol.chmod(0o755)
    variables = environment(**JOB, PATH=f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}")
    return Warm([sys.executable, *program, *line.split()], cwd=folder, env=variables)


@pytest.fixture
def stray(tmp_path, undisturbed):
    """A checkpoint as Lightning's own requeueing leaves it, of other weights, in the working
    directory.
    """
    checkpoint = torch.load(
        next(undisturbed.glob("lightning_logs/*/*/version_0/checkpoints/last.ckpt")),
        weights_only=True,
    )
    for weight in checkpoint["state_dict"].values():
        if weight.is_floating_point():
            weight.add_(0.5)
    torch.save(checkpoint, tmp_path / "hpc_ckpt_1.ckpt")
    return tmp_path


SLOW_DATA = """
import sys, time
from pathlib import Path
from {module} import {owner}
from gestalt.__main__ import main
def slow(*_, **__):
    Path("started").touch()
    time.sleep(60)
{owner}.{name} = slow
sys.exit(main(sys.argv[1:]))
"""


def test_sigusr1_before_the_first_step_requeues_the_job_without_a_traceback(tmp_path):
    code = SLOW_DATA.format(
        module="gestalt.data_modules.image_text",
        owner="ImageTextDataModule",
        name="train_dataloader",
    )
    process = in_a_job("-c", code, folder=tmp_path)
    stderr = ended_by(signal.SIGUSR1, process, folder=tmp_path)
    assert (
        "gestalt: stopped by SIGUSR1; nothing is lost: run the same command again\ngestalt: SLURM "
        "job 7 is queued again" in stderr
    )
    assert "Traceback" not in stderr
    assert not list(tmp_path.glob("**/result.json"))


def test_sigterm_during_eval_exits_without_a_traceback_or_record(tmp_path, undisturbed):
    run = next(undisturbed.glob("lightning_logs/*/*/version_0"))
    code = SLOW_DATA.format(
        module="gestalt.measures.segmentation.callback",
        owner="Segmentation",
        name="on_validation_batch_end",
    )
    process = in_a_job("-c", code, line=f"eval {run}", folder=tmp_path)
    stderr = ended_by(signal.SIGTERM, process, folder=tmp_path)
    assert "stopped by SIGTERM; finished records are kept, and the same command begins" in stderr
    assert "Traceback" not in stderr
    assert not list(run.glob("evaluations/*.json"))


def test_sigusr1_saves_and_requeues_and_the_restarted_job_matches_an_undisturbed_run(
    stray, undisturbed
):
    code = SLOW_STEPS.format(module="gestalt.module", owner="ContrastiveModule")
    process = in_a_job("-c", code, folder=stray)
    stderr = ended_by(signal.SIGUSR1, process, folder=stray)
    assert "SLURM job 7 is queued again" in stderr
    assert (stray / "scontrol.log").read_text() == "requeue 7\n"
    assert sorted(path.name for path in stray.glob("hpc_ckpt_*")) == ["hpc_ckpt_1.ckpt"]
    again = in_a_job("-m", "gestalt", folder=stray).communicate(timeout=900)
    assert again.returncode == 0, again.stderr
    assert [path.name for path in stray.glob("lightning_logs/clippy_dino_max/tiny/version_*")] == [
        "version_0"
    ]
    same(result(stray), result(undisturbed))
