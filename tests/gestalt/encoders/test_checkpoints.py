"""Untrusted files of weights: no loader runs code from them, and an unreadable file is refused by
name in one line.
"""

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gestalt.config.schema import Experiment
from gestalt.encoders.checkpoints import SCALER, read_checkpoint, read_resumable, read_state_dict
from gestalt.encoders.text_sentence import read_sentence_model
from gestalt.models.zoo.clippy import read_state
from gestalt.models.zoo.open_clip import open_model
from gestalt.runs import pretraining as pretraining
from gestalt.support.arrays import read_arrays
from tests.gestalt.encoders.tiny_text import save_bert
from tests.gestalt.models.zoo.test_open_clip import saved

WEIGHTS = "open_clip_pytorch_model.bin"


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def _write(kind: str, path: Path) -> None:
    """Write a file of weights with a fault."""
    if kind == "code":
        torch.save(
            {"state_dict": {"a": torch.zeros(2)}, "more": RunsCode(path.parent / "ran")}, path
        )
    elif kind == "object":
        torch.save({"state_dict": {"a": torch.zeros(2)}, "hparams": Namespace(a=1)}, path)
    elif kind == "cut short":
        torch.save({"state_dict": {"a": torch.zeros(2000)}}, path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_bytes({"empty": b"", "garbage": b"garbage" * 50}[kind])


FAULTS = ("code", "object", "cut short", "garbage", "empty")
LOADERS: dict[str, Any] = {
    "checkpoint": read_checkpoint,
    "state dict": read_state_dict,
    "clippy": read_state,
    "open_clip": lambda path: open_model(str(path.parent)),
}


def _refused(call: Any, *, names: str) -> str:
    """Check that the call is refused in one line; return the line."""
    with pytest.raises(ValueError, match=names) as error:
        call()
    line = str(error.value)
    assert "\n" not in line
    assert "weights_only" not in line
    assert "trust_remote_code=True" not in line
    return line


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("loader", LOADERS)
def test_a_weights_file_without_tensors_is_refused_in_one_line(loader, fault, tmp_path):
    saved(tmp_path)
    _write(fault, tmp_path / WEIGHTS)
    line = _refused(lambda: LOADERS[loader](tmp_path / WEIGHTS), names=str(tmp_path))
    assert not (tmp_path / "ran").exists()
    if fault in ("code", "object"):
        assert "only tensors are read, never code" in line


def test_open_clip_weights_that_are_damaged_or_integers_are_refused(tmp_path):
    state, path = saved(tmp_path).state_dict(), tmp_path / WEIGHTS
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(4096))
    _refused(lambda: open_model(str(tmp_path)), names=f"{WEIGHTS} .*: damaged, truncated")
    torch.save({name: value.long() for name, value in state.items()}, path)
    _refused(lambda: open_model(str(tmp_path)), names=f"{WEIGHTS}: .* holds integers")


@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt"])
def test_an_unreadable_file_of_weights_is_refused_in_one_line(name, tmp_path):
    path = tmp_path / name
    save_file({"a": torch.zeros(2000)}, path) if name.endswith("tensors") else torch.save(
        {"a": torch.zeros(2000)}, path
    )
    content = path.read_bytes()
    for damaged in (
        b"",
        b"<!DOCTYPE html>",
        content[:-100],
        content[:-1],
    ):
        path.write_bytes(damaged)
        _refused(
            lambda: read_state_dict(path),
            names=f"{name} cannot be read as a state dict: .*(truncated|No such file)",
        )
    (tmp_path / "best.ckpt").touch()
    _refused(lambda: read_checkpoint(path), names=r"in the same folder: .*best\.ckpt$")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda config: config["vision_cfg"].update(unknown=3),
            "unexpected keyword argument 'unknown'",
        ),
        (lambda config: config["vision_cfg"].update(width=24), "size mismatch"),
        (lambda config: config.pop("text_cfg"), "text_cfg"),
        (
            lambda config: config["vision_cfg"].update(timm_model_name="local-dir:."),
            "timm_model_name=local-dir:.: files of another model",
        ),
        (
            lambda config: config.update(text_cfg={"hf_model_name": "xlm-roberta-base"}),
            "needs files of the hub, and HF_HUB_OFFLINE is set",
        ),
    ],
    ids=["tower key", "width", "no text", "timm's loader", "text tower of the hub"],
)
def test_an_open_clip_folder_that_does_not_fit_is_refused_in_one_line(
    change, words, tmp_path, monkeypatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    saved(tmp_path)
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    change(config["model_cfg"])
    path.write_text(json.dumps(config))
    assert words in _refused(lambda: open_model(str(tmp_path)), names=f"^open_clip:{tmp_path}: ")


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        (1, "path", "../elsewhere", "names '../elsewhere': a part must lie in the folder"),
        (1, "path", "/elsewhere", "names '/elsewhere': a part must lie in the folder"),
        (0, "type", "mine.Mine", "it is Mine, Pooling, Normalize; expected Transformer"),
        (0, "type", "mine.Transformer", "names mine.Transformer: choose a model of sentence"),
    ],
)
def test_a_text_model_of_parts_from_elsewhere_is_refused(
    part, key, value, words, weights, tmp_path
):
    folder = Path(save_bert(tmp_path))
    modules = json.loads((folder / "modules.json").read_text())
    modules[part][key] = value
    (folder / "modules.json").write_text(json.dumps(modules))
    line = _refused(
        lambda: read_sentence_model(str(folder), weights=weights, layers=None), names="text.model"
    )
    assert words in line


@pytest.mark.parametrize("weights", [True, False])
def test_a_text_model_whose_longest_text_is_a_word_is_refused(weights, tmp_path):
    folder = Path(save_bert(tmp_path))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": "x"}')
    _refused(
        lambda: read_sentence_model(str(folder), weights=weights, layers=None), names="text.model"
    )


def test_a_text_model_whose_weights_are_a_pickle_that_runs_code_is_refused(tmp_path):
    folder = Path(save_bert(tmp_path))
    (weights,) = folder.glob("**/model.safetensors")
    weights.unlink()
    torch.save({"a": RunsCode(tmp_path / "ran")}, weights.with_name("pytorch_model.bin"))
    _refused(
        lambda: read_sentence_model(str(folder), weights=True, layers=None),
        names="text.model .*only tensors are read",
    )
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"model_args": {"weights_only": False}})
    )
    _refused(
        lambda: read_sentence_model(str(folder), weights=True, layers=None),
        names="has arguments for transformers",
    )
    assert not (tmp_path / "ran").exists()


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
    _refused(
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
    (tmp_path / "dino" / "checkpoints").mkdir(parents=True)
    (tmp_path / "dino" / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    _refused(
        lambda: pretraining.make(tmp_path / "dino.safetensors", Experiment(), command=""),
        names="last.ckpt cannot be read",
    )


@pytest.mark.parametrize("fault", ["objects", "cut short", "garbage", "empty"])
def test_unreadable_arrays_are_refused_in_one_line(fault, tmp_path):
    path = tmp_path / "scenes.npz"
    np.savez_compressed(
        path,
        a=np.array([RunsCode(tmp_path / "ran")], dtype=object)
        if fault == "objects"
        else np.arange(9999),
    )
    content = path.read_bytes()
    path.write_bytes(
        {"objects": content, "cut short": content[:-40], "garbage": b"garbage" * 50, "empty": b""}[
            fault
        ]
    )
    line = _refused(lambda: read_arrays(path), names="scenes.npz: the arrays cannot be read")
    assert "pickle" not in line
    assert not (tmp_path / "ran").exists()
