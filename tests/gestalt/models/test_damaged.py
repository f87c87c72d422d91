"""Weights that are not those that were written are refused before anything is scored with them."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from gestalt.models.opening import open_target
from gestalt.publishing.export import export_checkpoint
from gestalt.support.files import file_hash
from tests.gestalt.tiny_model import save_run, tiny


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run whose record has the hashes of its checkpoints."""
    folder = save_run(tmp_path)
    last = folder / "checkpoints/last.ckpt"
    shutil.copyfile(last, folder / "checkpoints/best.ckpt")
    record = json.loads((folder / "result.json").read_text()) | {
        "checkpoint_sha256": file_hash(last),
        "checkpoints": {"best.ckpt": file_hash(last), "last.ckpt": file_hash(last)},
    }
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def refused(target: Path, *, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        open_target(str(target))
    assert str(target) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_zeros_in_the_middle_of_a_checkpoint_are_found_without_a_record(run):
    (run / "result.json").unlink()
    path = run / "checkpoints/last.ckpt"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)
    refused(
        path,
        words=(
            r"cannot be read as a state dict: damaged, truncated, or .*copy or download it again; "
            r"in the same folder: .*best"
        ),
    )


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_other_than_the_record_s_is_refused(run, name):
    path = run / "checkpoints" / name
    open_target(str(path))
    model = tiny()[0]
    torch.save(
        {
            "state_dict": {f"model.{key}": value + 0 for key, value in model.state_dict().items()},
            "more": 1,
        },
        path,
    )
    refused(
        path,
        words=(
            r"damaged or replaced: its SHA-256 is \w{12}, .*result\.json has \w{12}; copy or "
            r"download it again"
        ),
    )
    shutil.copytree(path.parent, run / "kept")
    open_target(str(run / "kept" / name))  # may be an earlier one


def test_a_checkpoint_is_loaded_once_and_a_recorded_hash_stands_for_its_checksums(run, monkeypatch):
    loads, checksums = Mock(wraps=torch.load), Mock(return_value=None)
    monkeypatch.setattr(torch, "load", loads)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", checksums)
    open_target(str(run))
    assert (loads.call_count, checksums.call_count) == (1, 0)
    (run / "result.json").unlink()
    open_target(str(run))
    assert (loads.call_count, checksums.call_count) == (2, 1)


def test_a_run_is_opened_through_few_files(run):
    files = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>":
            files.update(re.findall(r"/gestalt/(.*)|/data_modules/(.*)", code.co_filename))

    sys.setprofile(note)
    try:
        open_target(str(run))
    finally:
        sys.setprofile(None)
    assert len(files) <= 38


def test_a_run_that_goes_on_after_its_record_is_opened(run):
    record = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(
        json.dumps({**record, "steps": 4, "checkpoint_sha256": "earlier", "checkpoints": {}})
    )
    open_target(str(run))


def test_an_exported_folder_with_other_weights_is_refused(run, tmp_path):
    model, config = tiny()
    (run / "result.json").unlink()
    folder = tmp_path / "out"
    export_checkpoint(
        model,
        config,
        checkpoint=run / "checkpoints/last.ckpt",
        folder=folder,
        license=None,
        datasets=[],
    )
    assert open_target(str(folder)).identity["exported_checkpoint"] == "last.ckpt"
    weights = load_file(folder / "model.safetensors")
    largest = max(weights, key=lambda name: weights[name].numel())
    weights[largest].flatten()[:64] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, words=r"model\.safetensors: damaged or replaced: SHA-256 of its")
