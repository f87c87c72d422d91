"""gestalt export: a run becomes a folder that loads anywhere, or nothing is written."""

import json
import re
import shutil
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import save_model

import gestalt
from gestalt.encoders.weights import weights_hash
from gestalt.models.names import CHECKPOINT, exported_folder
from tests.gestalt.command import run_here
from tests.gestalt.tiny_model import RUN, export, save_photo, save_run, tiny


@pytest.fixture
def run(cwd):
    """The command that exports a run, whose folder is the working directory's."""
    return f"export {save_run(cwd)}"


def test_an_exported_run_loads_elsewhere_with_equal_embeddings(run, tmp_path, capsys):
    run_here(f"{run} --to out/tiny --license mit")
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'tiny'}\n"
    assert sorted(path.name for path in (tmp_path / "out" / "tiny").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    shutil.move("out/tiny", "elsewhere")
    shutil.rmtree("lightning_logs")
    model, loaded = tiny()[0], gestalt.load("elsewhere", "cpu").encoder
    assert exported_folder("elsewhere") is not None
    assert weights_hash(loaded) == weights_hash(model)
    assert torch.equal(loaded.embed_text(["a dog"]), model.embed_text(["a dog"]))


@pytest.mark.parametrize("name", ["tiny", 'my "tiny" mödel'])
def test_the_three_lines_of_the_card_run(name, run, tmp_path, capsys):
    save_photo(tmp_path / "photo.jpg")
    run_here(run, "--to", name)
    capsys.readouterr()
    (code,) = re.findall(
        r"```python\n(.*?)```",
        (tmp_path / name / "README.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    assert len(code.splitlines()) == 3
    exec(code, {})
    assert "dog" in capsys.readouterr().out


def test_folder_and_card_name_the_run_the_step_and_the_weights(run, tmp_path, capsys):
    torch.save(
        torch.load(RUN / CHECKPOINT) | {"global_step": 5, "gestalt": {"steps_planned": 8}},
        RUN / CHECKPOINT,
    )
    (RUN / "result.json").unlink()
    run_here(f"export {RUN} --to tiny")
    assert capsys.readouterr().err == f"model: {RUN}, step 5 of 8\n"
    made = json.loads((tmp_path / "tiny" / "config.json").read_text())["provenance"]
    weights = weights_hash(tiny()[0])
    facts = [made[key] for key in ("run", "steps", "steps_planned", "weights_sha256")]
    assert facts == ["clippy_dino_max/small/version_0", 5, 8, weights]
    card = (tmp_path / "tiny" / "README.md").read_text()
    for line in (
        "- Run `clippy_dino_max/small/version_0`, checkpoint `last.ckpt`.",
        "- 5 steps of 8 planned, ",
        f"`{weights}`",
    ):
        assert line in card
    assert gestalt.load("tiny", "cpu").origin == "tiny, step 5 of 8"


def test_an_export_that_fails_leaves_nothing(run, tmp_path, monkeypatch, refusal):
    def save_others(model, path, **keywords):
        model.logit_scale.data += 1
        save_model(model, path, **keywords)

    monkeypatch.setattr("gestalt.models.folder.save_model", save_others)
    assert "damaged or replaced: SHA-256 of its weights" in refusal(f"{run} --to out")
    assert [path.name for path in tmp_path.iterdir()] == ["lightning_logs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--license mit --torch-export a.pt2",
            "--license and --dataset are for the model card; give --to DIR",
        ),
        (
            "--to out --license 'All rights'",
            "--license All rights: write the identifier of a licence",
        ),
        ("--torch-export a.pt", "--torch-export a.pt: name a file that ends in .pt2"),
        ("--to out --share 0.5,2", "--share 0.5,2: give different numbers from 0 to 1"),
        ("--to out --share 1", "--share: the run has start=null, and only a start of the whole"),
    ],
)
def test_a_mistake_is_refused_in_one_line_before_the_model_is_loaded(
    run, words, message, refusal, monkeypatch
):
    monkeypatch.setattr("gestalt.models.opening.open_target", None)
    assert message in refusal(f"{run} {words}")


def test_exporting_to_a_folder_is_refused_for_targets_other_than_runs(cwd, refusal):
    export(cwd / "exported")
    assert "exported: --to is for runs of Gestalt" in refusal("export exported --to out")
    run = save_run(cwd / "elsewhere")
    assert "--share: would open the start" in refusal(f"export {run} --to out --share 1")


def test_onnx_without_its_packages_names_the_extra(run, monkeypatch, refusal):
    monkeypatch.setattr(
        "gestalt.commands.export.find_spec",
        lambda name: None if name == "onnxruntime" else find_spec("json"),
    )
    mend = "--onnx: needs onnxruntime; install the extra: pip install 'gestalt-grouping[onnx]'"
    assert mend in refusal(f"{run} --onnx a.onnx")
