"""An exported folder holds the model exactly, and any other folder is refused in one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from gestalt.models.folder import load_folder
from tests.gestalt.tiny_model import export


@pytest.fixture
def folder(tmp_path):
    return export(tmp_path / "model")


def test_exported_files_have_the_same_permissions(folder):
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "config.json").unlink(),
            "config.json: no such file; an exported model is a folder with",
        ),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "model.safetensors cannot be read as a state dict: No such file",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"\x08"),
            "model.safetensors cannot be read as a state dict: damaged",
        ),
        (
            lambda folder: save_file(
                {"logit_scale": torch.tensor(1)}, folder / "model.safetensors"
            ),
            "1 of integers: logit_scale torch.int64",
        ),
    ],
)
def test_a_folder_that_is_not_an_exported_model_is_refused_in_one_line(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 -- the message is compared below
        load_folder(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("part", "keys", "message"),
    [
        (
            "image",
            {"depth": 3},
            r"model\.safetensors: does not fit the model of config\.json: .*blocks\.2",
        ),
        ("image", {"depth": 10**6}, "image.depth=1000000: choose .* at most 1000"),
        ("image", {"backbone": "hf-hub:a/b"}, "image.backbone=hf-hub:a/b: .*without a colon"),
        ("text", {"family": "sentence", "width": None, "heads": None}, "model: has no text/"),
    ],
)
def test_a_description_of_another_model_is_refused(folder, part, keys, message):
    described = json.loads((folder / "config.json").read_text())
    described["config"][part] |= keys
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=message):
        load_folder(folder)
