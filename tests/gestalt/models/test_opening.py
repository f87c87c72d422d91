"""Names of opened models, and what is said of the files of other libraries."""

import json
from pathlib import Path

import pytest
import torch

import gestalt
from gestalt.models.finding import check_target
from gestalt.models.opening import open_target, place_of
from gestalt.runs.resume import resolve_resume
from tests.gestalt.models.zoo import test_open_clip, test_timm, tiny_hf
from tests.gestalt.runs.test_folders import config
from tests.gestalt.tiny_model import save_run


def test_a_run_that_is_named_from_within_is_called_by_its_whole_path(tmp_path, monkeypatch):
    assert place_of({"checkpoint": "clippy:folder/last.ckpt"}) == "clippy:folder/last.ckpt"
    run = save_run(tmp_path)
    (run / "result.json").write_text('{"data": {"samples": 9}}')
    monkeypatch.chdir(run / "checkpoints")
    identity = open_target("..").identity
    assert (identity["run"], identity["data"]) == (str(run), {"samples": 9})
    assert open_target(str(Path("..") / "checkpoints/last.ckpt")).identity["run"] == str(run)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Files and folders that other libraries write."""
    folder = tmp_path_factory.mktemp("foreign")
    tiny_hf.saved(folder / "transformers", kind="CLIP")
    test_timm.saved(folder / "timm", *test_timm.MODELS["convolutions with a norm after pooling"])
    weights = test_open_clip.saved(folder / "open_clip").state_dict()
    parallel = {f"module.{name}": value for name, value in weights.items()}
    clippy = {f"module.{name}": torch.ones(1) for name in ("visual.trunk.a", "text.0.b")}
    for name, content in {
        "weights.pt": weights,
        "epoch_1.pt": {"epoch": 1, "name": "x", "state_dict": parallel, "optimizer": {}},
        "clippy_5k.pt": {"state_dict": clippy | {"module.logit_scale": torch.ones(1)}},
        "vision.pt": {name: value for name, value in weights.items() if "visual." in name},
        "other.pt": {"model": {"weight": torch.ones(1)}},
    }.items():
        torch.save(content, folder / name)
    for name, text in {"other": {"a": 1}, "cut": [1]}.items():
        (folder / name).mkdir()
        (folder / name / "model.safetensors").touch()
        (folder / name / "config.json").write_text(json.dumps(text))
    (folder / "pictures").mkdir()
    return folder


CODE = "python:PACKAGE.MODULE:FACTORY"
CLIP_FILE = "open_clip:ARCHITECTURE:{}, with its architecture"
OPENED_AS = {
    "transformers": "hf:{}",
    "timm": "timm:{}",
    "open_clip": "open_clip:{}",
    "weights.pt": CLIP_FILE,
    "epoch_1.pt": CLIP_FILE,
    "clippy_5k.pt": "clippy:{}",
    "vision.pt": CODE,
    "other.pt": CODE,
    "other": CODE,
    "pictures": CODE,
}


@pytest.mark.parametrize("name", OPENED_AS)
def test_a_file_or_folder_of_another_library_is_named_by_the_word_that_opens_it(name, foreign):
    target = str(foreign / name)
    word = OPENED_AS[name].format(target)
    for opens in (open_target, gestalt.load, *[check_target] * Path(target).is_dir()):
        with pytest.raises(ValueError, match="neither a ") as refused:
            opens(target)
        assert f"another library's model opens as {word}" in str(refused.value)
        assert "export it again" not in str(refused.value)
    if word.endswith(target):
        check_target(word)


def test_a_damaged_export_and_a_folder_to_resume_are_not_called_another_library_s(foreign):
    with pytest.raises(ValueError, match="export it again"):
        open_target(str(foreign / "cut"))
    with pytest.raises(ValueError, match="nor an experiment with one; runs here"):
        resolve_resume(config(f"resume={foreign / 'pictures'}"))
