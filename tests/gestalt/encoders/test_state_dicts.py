"""Untrusted files of weights: no loader runs code from them, and an unreadable file is refused by
name in one line.
"""

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gestalt.encoders.checkpoints import read_checkpoint
from gestalt.encoders.state_dicts import read_state_dict
from gestalt.models.zoo.clippy import read_state
from gestalt.models.zoo.open_clip import open_model
from tests.gestalt.models.zoo.test_open_clip import saved

WEIGHTS = "open_clip_pytorch_model.bin"


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def write(kind: str, path: Path) -> None:
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


def refused(call: Any, *, names: str) -> str:
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
    write(fault, tmp_path / WEIGHTS)
    line = refused(lambda: LOADERS[loader](tmp_path / WEIGHTS), names=str(tmp_path))
    assert not (tmp_path / "ran").exists()
    if fault in ("code", "object"):
        assert "only tensors are read, never code" in line


def test_open_clip_weights_that_are_damaged_or_integers_are_refused(tmp_path):
    state, path = saved(tmp_path).state_dict(), tmp_path / WEIGHTS
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(4096))
    refused(lambda: open_model(str(tmp_path)), names=f"{WEIGHTS} .*: damaged, truncated")
    torch.save({name: value.long() for name, value in state.items()}, path)
    refused(lambda: open_model(str(tmp_path)), names=f"{WEIGHTS}: .* holds integers")


def test_an_unreadable_file_of_safetensors_is_refused_in_one_line(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2000)}, path)
    content = path.read_bytes()
    for damaged in (b"", b"<!DOCTYPE html>", content[:-100], content[:-1]):
        path.write_bytes(damaged)
        refused(
            lambda: read_state_dict(path),
            names="a.safetensors cannot be read as a state dict: .*truncated",
        )
    (tmp_path / "best.ckpt").touch()
    refused(lambda: read_checkpoint(path), names=r"in the same folder: .*best\.ckpt$")


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
    assert words in refused(lambda: open_model(str(tmp_path)), names=f"^open_clip:{tmp_path}: ")
