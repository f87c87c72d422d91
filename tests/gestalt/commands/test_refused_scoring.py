"""Refused evaluations and overwrites on a checkpoint of a few steps: one line with the remedy."""

import re
import shutil

import pytest
import torch

from tests.gestalt.command import TINY, refused, succeed

pytestmark = pytest.mark.slow

TRAIN = f"train clippy_dino_max {TINY} trainer.max_steps=2"
RUN = "lightning_logs/clippy_dino_max/tiny/version_0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = succeed(TRAIN, folder=folder)
    assert done.stdout.splitlines()[-1].split()[0].startswith("scenes/")
    return folder


@pytest.mark.parametrize("word", ["seed=9", "trainer.max_steps=7"])
def test_eval_refuses_to_change_keys_that_only_training_reads(trained, word):
    line = refused(f"eval {RUN} {word}", folder=trained)
    assert word.partition("=")[0] in line
    assert "the run had" in line
    assert not list((trained / RUN).glob("evaluations/*.json"))


@pytest.mark.parametrize("kind", ["cut off", "empty", "another"])
@pytest.mark.parametrize("command", [f"eval {RUN}", f"{TRAIN} resume=last"])
def test_a_checkpoint_that_cannot_be_read_is_named(trained, tmp_path, kind, command):
    shutil.copytree(trained / "lightning_logs", tmp_path / "lightning_logs")
    file = tmp_path / RUN / "checkpoints" / "last.ckpt"
    shutil.copy(file, file.with_name("best.ckpt"))
    if kind == "another":
        torch.save({"a": 1}, file)
    else:
        file.write_bytes(file.read_bytes()[:100_000] if kind == "cut off" else b"")
    line = refused(command, folder=tmp_path)
    assert re.search(r"checkpoints/last\.ckpt(:| cannot be read)", line)
    assert "best.ckpt" in line


def test_a_report_overwrites_only_another_report(trained, tmp_path):
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    before = (trained / RUN / "result.json").read_bytes()
    report = f"report {RUN} --output"
    for name, message in (
        (f"{RUN}/result.json", "name a file that ends in .html"),
        (tmp_path, "name a file that ends in .html"),
        (notes, "is not a report"),
    ):
        assert message in refused(f"{report} {name}", folder=trained)
    assert (notes.read_text(), (trained / RUN / "result.json").read_bytes()) == ("mine", before)
    for _ in range(2):
        succeed(f"{report} {tmp_path}/page.html", folder=trained)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.html", "page.html"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is asked for")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.accelerator=gpu", "choose auto or cpu"),
        ("trainer.devices=2", "this machine has 1; choose at most 1"),
        ("trainer.devices=0,2", "torch finds no GPU of these numbers"),
        ("trainer.precision=16-mixed", "a CPU has no float16; choose bf16-mixed"),
    ],
)
def test_missing_hardware_is_refused_without_making_a_folder(
    trained, tmp_path, word, message, monkeypatch
):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "1")
    assert message in refused(f"train clippy_random_max --scale tiny {word}", folder=tmp_path)
    assert message in refused(f"eval {RUN} {word}", folder=trained)
    assert not list(tmp_path.glob("lightning_logs/*"))
