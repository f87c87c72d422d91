"""Checks before a run starts, made before anything heavy is imported; saved runs skip them."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from gestalt.__main__ import main
from gestalt.config import check as launch
from gestalt.config.loading import load
from gestalt.config.schema import to_yaml
from gestalt.support.typed import ConfigError
from tests.gestalt.tiny_config import tiny_config

BAD = [  # overrides, what the line must hold
    (["data.batch_size=1"], ["data.batch_size=1", "choose 2 or more"]),
    (
        ["trainer.devices=7"],
        ["data.batch_size=64", "trainer.devices=7", "choose a multiple, such as 63"],
    ),
    (["trainer.max_steps=20"], ["optimizer.warmup_steps=100", "trainer.max_steps=20", "no more"]),
    (
        ["trainer.num_nodes=2"],
        ["trainer.num_nodes=2: no launcher started", "torchrun --nnodes 2 or SLURM"],
    ),
    (
        ["image.weights=no.safetensors"],
        ["image.weights=no.safetensors: not found", str(Path("no.safetensors").absolute())],
    ),
    (
        ["evaluation.benchmarks=[pascal_voc]", "benchmark_root=/no/voc"],
        ["benchmark_root=/no/voc: not found"],
    ),
]


@pytest.mark.parametrize(("words", "parts"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_run_that_cannot_start_is_refused_in_one_line(words, parts, monkeypatch, capsys):
    for name in launch.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    assert main(["train", "clippy_dino_max", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for part in parts:
        assert part in message


def test_many_nodes_need_something_that_starts_them(monkeypatch):
    for name in launch.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    config = load("clippy_dino_max", scale="demo", overrides=["trainer.num_nodes=2"])
    with pytest.raises(ConfigError, match="no launcher started the other nodes"):
        launch.check_nodes(config.trainer)
    for launcher in launch.LAUNCHERS:
        with monkeypatch.context() as patch:
            patch.setenv(launcher, "1")
            launch.check_nodes(config.trainer)


def test_calibrate_checks_the_split_of_its_benchmark_and_not_of_the_runs_benchmarks(
    tmp_path, monkeypatch, capsys
):
    words = ["evaluation.benchmarks=[pascal_voc]", f"benchmark_root={tmp_path}"]
    config = tiny_config(*words)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    opened = SimpleNamespace(config=config)
    monkeypatch.setattr("gestalt.runs.score.open_target", lambda *_, **__: opened)
    monkeypatch.setattr("gestalt.runs.sweep.calibrate", lambda *_, **__: "somewhere")
    asked = ["eval", str(tmp_path), "--calibrate", "scenes", "evaluation.protocol=mmseg-448/tcl"]
    assert main([*asked, "evaluation.split=tune"]) == 0  # pascal_voc has no such split
    assert main([*asked, "evaluation.split=tunne"]) == 2
    assert "scenes has no such split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "data.options.images=2024",
            "must be a word or a path; in quotes it is a text: \"data.options.images='2024'\"",
        ),
        ("data.options.quoted=fasle", "must be true or false"),
        (
            "data.options.image=a",
            "source table takes no such option; did you mean 'images'? choose one of images, "
            "separator",
        ),
    ],
)
def test_an_option_of_a_source_has_the_type_that_its_file_writes(word, message):
    words = ["data.source=table", "data.root=a.csv"]
    launch.check_training(tiny_config(*words, "data.options.images='2024'"))
    with pytest.raises(ConfigError, match=re.escape(f"{word}: {message}")):
        launch.check_training(tiny_config(*words, word))
