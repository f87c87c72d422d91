"""Refused evaluations and overwrites on a run of a few steps: one line with the remedy."""

from pathlib import Path

import pytest
import torch

from gestalt.config.schema import to_yaml
from tests.gestalt.command import run_here
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import RUN, save_run

TRAIN = "train clippy_dino_max --scale tiny"


@pytest.fixture(autouse=True)
def _there(cwd, monkeypatch):
    monkeypatch.setenv("PYTHON_CPU_COUNT", "1")
    save_run(cwd)
    Path("notes.html").write_text("mine")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"eval {RUN} seed=9", "seed=9: the run had 0"),
        (f"eval {RUN} trainer.max_steps=7", "trainer.max_steps=7: the run had -1"),
        (f"report {RUN} --output {RUN}/result.json", "name a file that ends in .html"),
        (f"report {RUN} --output lightning_logs", "name a file that ends in .html"),
        (f"report {RUN} --output notes.html", "is not a report"),
    ],
)
def test_a_command_that_would_mislead_or_overwrite_is_refused(line, message, tmp_path, refusal):
    def files():
        return {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}

    before = files()
    assert message in refusal(line)
    assert files() == before


@pytest.mark.parametrize("command", [f"eval {RUN}", f"{TRAIN} resume={RUN}"])
def test_a_checkpoint_that_cannot_be_read_is_named(command, capsys):
    (RUN / "result.json").unlink()
    (RUN / "config.yaml").write_text(to_yaml(tiny_config()))
    file = RUN / "checkpoints" / "last.ckpt"
    file.write_bytes(file.read_bytes()[:100_000])
    file.with_name("best.ckpt").touch()
    run_here(command, status=2)
    line = capsys.readouterr().err.splitlines()[-1]
    assert "checkpoints/last.ckpt cannot be read" in line
    assert "best.ckpt" in line


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
def test_missing_hardware_is_refused_without_making_a_folder(word, message, refusal):
    for command in (TRAIN, f"eval {RUN}"):
        assert message in refusal(f"{command} {word}")
    assert list(RUN.parents[1].iterdir()) == [RUN.parent]
