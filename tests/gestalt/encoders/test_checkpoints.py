"""Checkpoints from which training resumes."""

from typing import Any

import pytest
import torch

from gestalt.config.schema import Experiment
from gestalt.encoders.checkpoints import SCALER, read_resumable
from gestalt.runs import pretraining
from tests.gestalt.encoders.test_state_dicts import refused


def after_three_steps(moments: dict[int, Any]) -> dict[str, Any]:
    """A checkpoint of two parameters after three steps."""
    optimizer = {"state": moments, "param_groups": [{"params": [0, 1]}]}
    states = {"optimizer_states": [optimizer], "lr_schedulers": [{}]}
    return {"state_dict": {}, "global_step": 3, "loops": {}, "callbacks": {}, **states}


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer_states": []},
        {"optimizer_states": [{"state": {0: {}}, "param_groups": [{"params": [0, 1]}]}]},
        {"optimizer_states": [{"state": {0: {"a": 1}, 1: {}}, "param_groups": []}]},
        {"lr_schedulers": []},
    ],
)
def test_a_checkpoint_from_which_training_would_go_on_with_fresh_moments_is_refused(
    change, tmp_path
):
    whole = after_three_steps({0: {}, 1: {}})
    path = tmp_path / "last.ckpt"
    torch.save(whole, path)
    assert read_resumable(path) == whole
    torch.save({**whole, **change}, path)
    refused(
        lambda: read_resumable(path),
        names="last.ckpt: its optimi.*resume from another checkpoint, or train again",
    )


def test_a_parameter_that_is_not_trained_yet_has_no_moments(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save(after_three_steps({0: {}}), path)
    read_resumable(path, partly_trained=True)
    torch.save({**after_three_steps({0: {}}), SCALER: {}}, path)  # fp16 skips steps
    read_resumable(path)
    torch.save({**after_three_steps({}), "global_step": 0}, path)
    read_resumable(path)


def test_pretraining_does_not_go_on_from_a_checkpoint_that_is_cut_short(tmp_path):
    (tmp_path / "dino/checkpoints").mkdir(parents=True)
    (tmp_path / "dino/checkpoints/last.ckpt").write_bytes(b"PK")
    refused(
        lambda: pretraining.make(tmp_path / "dino.safetensors", Experiment(), command=""),
        names="last.ckpt cannot be read",
    )
