"""Runs with the user's own towers, here those of the example: ranks, and code that files name."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

import gestalt
from gestalt.config.loading import load
from gestalt.config.schema import to_yaml
from gestalt.models.folder import save_folder
from gestalt.models.names import exported_folder
from gestalt.models.start import build_model
from gestalt.support.typed import ConfigError
from tests.gestalt.command import TRAIN, TWO_RANKS, result, run_here, succeed
from tests.gestalt.tiny_model import save_photo

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "towers.py"
CODE = ["image.family=python:towers:Dinov2", "text.family=python:towers:Words"]
WORDS = [*CODE, "image.init=random", "text.init=random"]


@pytest.fixture
def path(cwd, monkeypatch):
    """A working directory, which holds the example, and a path to modules of this test alone."""
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(EXAMPLE.parent)])
    sys.modules.pop("towers", None)
    shutil.copy(EXAMPLE, cwd)
    yield sys.path
    sys.modules.pop("towers", None)


@pytest.mark.slow
def test_two_ranks_train_as_one(tmp_path):
    pretrained = tmp_path / "pretrained"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, patch_size=8, image_size=518)).save_pretrained(pretrained)
    line = f"{TRAIN} {' '.join(WORDS)} image.init={pretrained}"
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        shutil.copy(EXAMPLE, folder)
    succeed(line, folder=folders[0])
    succeed(f"{line} {TWO_RANKS}", folder=folders[1])
    assert result(folders[1])["loss"] == pytest.approx(result(folders[0])["loss"], rel=1e-4)


def test_a_folder_that_names_code_runs_it_only_if_the_user_names_it_too(path, tmp_path, refusal):
    path.append(str(tmp_path))
    config = load("clippy_dino_max", scale="tiny", overrides=WORDS)
    model = build_model(config).eval()
    folder = save_folder(model, config, path=tmp_path / "exported", provenance={})
    run = tmp_path / "elsewhere"
    file = run / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    torch.save(
        {"state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}, file
    )
    (run / "config.yaml").write_text(to_yaml(config))
    del sys.modules["towers"]
    for words in ([], CODE[:1], CODE[1:]):
        with pytest.raises(ConfigError, match=r"family=python:towers:\w+: start=.* names code"):
            load("clippy_dino_max", scale="tiny", overrides=[f"start={folder}", *words])
    photo = save_photo(tmp_path / "a.png")
    for line in (f"export {run} --to out", f"segment {photo} --labels a,b --model {folder}"):
        assert "names code" in refusal(line, CODE[0])
        assert "takes no such word" in refusal(line, *CODE, "image.eval_size=16")
    assert "towers" not in sys.modules
    run_here(f"segment {CODE[0]} {photo} --labels a,b --model {folder}", CODE[1])
    run_here(f"export {run} --to out", *CODE)
    assert exported_folder("out")
    again = gestalt.load(folder, overrides=CODE)
    assert torch.equal(again.encoder.embed_text(["a dog"]), model.embed_text(["a dog"]))
    assert again.segment(photo, ["dog", "cat"]).map.shape == (33, 50)
    with pytest.raises(ValueError, match="is no ViT of timm"):
        again.encoder.resize_positions("scale_factor", grid=(2, 2)).__enter__()
    with pytest.raises(ValueError, match="needs the attention of a class token"):
        again.encoder.check_class_attention()
    start = load("clippy_dino_max", scale="tiny", overrides=[f"start={folder}", *CODE])
    assert torch.equal(build_model(start).eval().embed_text(["a"]), model.embed_text(["a"]))


def test_a_file_finds_no_code_in_the_working_directory(path, tmp_path, refusal):
    Path("mine.yaml").write_text("image: {family: 'python:towers:Dinov2'}")
    line = "train ./mine.yaml --scale tiny trainer.max_steps=1"
    assert f"; in {tmp_path} it is looked for if the command line names" in refusal(line)
    assert "towers" not in sys.modules
    said = refusal(f"features ./mine.yaml --scale tiny --to a {CODE[0]} image.frozen=true")
    assert f"{CODE[0]}: a cache of data.features holds what the first half" in said
