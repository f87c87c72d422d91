"""Saved files stay true: no NaN replaces good weights, and the record of a finished run is never
rewritten.
"""

import json
import sys

import pytest
import torch

from tests import warm
from tests.gestalt.command import TRAIN, environment, result, succeed

NAN_AFTER_STEP_6 = """
import sys
from gestalt.module import ContrastiveModule
from gestalt.__main__ import main
step = ContrastiveModule.optimizer_step
def broken(self, *arguments, **keywords):
    step(self, *arguments, **keywords)
    if self.global_step == 5:  # counted after this call
        next(self.model.parameters()).data.view(-1)[0] = float("nan")
ContrastiveModule.optimizer_step = broken
sys.exit(main(sys.argv[1:]))
"""
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("averaged", ["", "optimizer.ema=0.9"], ids=["weights", "averaged"])
def test_a_weight_that_becomes_nan_in_a_step_is_not_saved_and_the_checkpoint_before_stays(
    tmp_path, averaged
):
    command = [sys.executable, "-c", NAN_AFTER_STEP_6, *f"{TRAIN} {averaged}".split()]
    done = warm.run(command, cwd=tmp_path, env=environment(), timeout=300)
    assert done.returncode == 1, done.stderr
    assert "contain NaN or infinity after step 6; the previous" in done.stderr
    saved = torch.load(
        next(tmp_path.glob("lightning_logs/*/*/version_0/checkpoints/last.ckpt")), weights_only=True
    )
    assert saved["global_step"] == 4
    assert all(
        torch.isfinite(weight).all()
        for weight in saved["state_dict"].values()
        if weight.is_floating_point()
    )
    assert not list(tmp_path.glob("**/*.partial"))


def test_resuming_a_finished_run_writes_an_evaluation_and_keeps_its_record(tmp_path):
    succeed(TRAIN, folder=tmp_path)
    path = next(tmp_path.glob("lightning_logs/*/*/version_0/result.json"))
    before = path.read_bytes()
    succeed(f"{TRAIN} resume=last evaluation.limit=7", folder=tmp_path)
    assert path.read_bytes() == before
    evaluation = json.loads((path.parent / "evaluations" / "0.json").read_text())
    assert evaluation["metrics"] == result(tmp_path)["metrics"]
    assert evaluation["weights_sha256"] == result(tmp_path)["weights_sha256"]


SLOW = """
import sys, time
from gestalt.module import ContrastiveModule
from gestalt.__main__ import main
step = ContrastiveModule.training_step
def slow(self, *arguments):
    time.sleep(0.6)
    return step(self, *arguments)
ContrastiveModule.training_step = slow
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_ended_by_max_time_continues_training_when_resumed(tmp_path):
    command = [sys.executable, "-c", SLOW, *TRAIN.split(), "trainer.max_time=00:00:00:02"]
    assert warm.run(command, cwd=tmp_path, env=environment(), timeout=300).returncode == 0
    ended = result(tmp_path)
    assert ended["steps"] < ended["steps_planned"]
    succeed(f"{TRAIN} resume=last trainer.max_time=00:00:10:00", folder=tmp_path)
    assert result(tmp_path)["steps"] == ended["steps_planned"]
