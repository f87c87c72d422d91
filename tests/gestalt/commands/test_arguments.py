"""The table of commands, and checks that refuse a command before torch is imported."""

from importlib import import_module
from pathlib import Path

import pytest

from gestalt.__main__ import main
from gestalt.commands.arguments import COMMANDS, check, parse
from gestalt.commands.model_words import WORDS
from gestalt.config.identity import to_yaml
from gestalt.config.loading import load


def test_every_command_has_its_file_its_flags_and_a_check_by_its_name() -> None:
    for name, row in COMMANDS.items():
        words = import_module(f"gestalt.commands.{row.words}")
        assert callable(import_module(f"gestalt.commands.{row.module}").run), name
        assert name in words.WORDS
        own = {
            key
            for key in vars(words)
            if key.startswith("check_") and vars(words)[key].__module__ == words.__name__
        }
        assert own <= {f"check_{name}" for name in COMMANDS} | {"check_outputs"}, name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--sizes", "32,64", "--calibrate", "scenes"],
            "--sizes, --protocols and --calibrate are different evaluations; give one",
        ),
        (
            ["--split", "tune"],
            "--split tune: needs --calibrate; to score another split write evaluation.split=tune",
        ),
        (["--calibrate", "flickr"], "--calibrate flickr: choose one that measures segmentation"),
        (
            ["--sizes", "32,64", "--predictions", "maps"],
            "--predictions writes the maps of one evaluation; leave out --sizes, --protocols and",
        ),
    ],
)
def test_invalid_eval_options_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "anything", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bench", "flickr"], "--bench flickr: choose one that measures segmentation: scenes, "),
        (
            ["--bench", "scenes", "image.eval_size=64"],
            "image.eval_size=64: scoring label maps does not read it; leave it out",
        ),
        (["--bench", "pascal_voc"], "benchmark_root=None: benchmark pascal_voc needs its files"),
        (
            ["--bench", "scenes", "--values", "zero"],
            "--values zero: no such file; choose index, reduce_zero_label, truth, voc_colours, or",
        ),
        (
            ["--bench", "scenes", "--values", "high.json"],
            '--values high.json: 70000: "dog"; a value is 0 to 65535',
        ),
        (
            ["--bench", "ade20k", "--measure", "grouping", "--values", "truth"],
            "--values truth: each value of a map is a group",
        ),
        (["--bench", "scenes", "--note", "mmseg"], "--note mmseg: a note is key=value"),
    ],
)
def test_invalid_score_options_are_refused_in_one_line(
    words: list[str], message: str, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "high.json").write_text('{"70000": "dog"}')
    assert main(["score", ".", *words]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


def test_the_sub_folder_of_the_benchmark_is_read_and_values_and_notes_are_stored(tmp_path) -> None:
    (tmp_path / "maps" / "scenes").mkdir(parents=True)
    (tmp_path / "values.json").write_text('{"3": "dog", "7": null}')
    words = [
        "--values",
        str(tmp_path / "values.json"),
        "--note",
        "protocol=a=b",
        "--note",
        "size=448",
    ]
    arguments = parse(["score", str(tmp_path / "maps"), "--bench", "scenes", *words])
    check(arguments)
    assert arguments.maps == tmp_path / "maps" / "scenes"
    assert arguments.values == {3: "dog", 7: None}
    assert arguments.notes == {"protocol": "a=b", "size": "448"}
    assert arguments.config.evaluation.benchmarks == ["scenes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "./mine.yaml"], "experiment ./mine.yaml: "),
        (["ablate", "./mine.yaml"], "grid ./mine.yaml: "),
    ],
)
def test_a_missing_user_file_is_refused_in_one_line(
    words: list[str], message: str, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    line = capsys.readouterr().err
    assert message in line
    assert "mine.yaml not found; give the path of a YAML file, or choose one of " in line
    assert line.count("\n") == 1


def test_the_usage_of_a_command_that_takes_keys_shows_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["ablate", "--help"])
    assert "[key=value ...]" in capsys.readouterr().out


def test_a_word_too_many_and_an_unknown_flag_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, message in {
        ("list", "losses", "more"): "list takes no key=value and no further word: leave out more",
        ("train", "gestalt", "--bad"): "train has no --bad; gestalt train --help lists its flags",
    }.items():
        with pytest.raises(SystemExit):
            parse(list(words))
        assert message in capsys.readouterr().err


def test_the_keys_that_the_help_of_eval_names_are_read_by_scoring() -> None:
    from gestalt.building.targets import ONLY_TRAINING

    named = [
        word
        for word in WORDS["eval"].keys.split()
        if "." in word or word.startswith("benchmark_root=")
    ]
    assert len(named) == 3
    assert not any(word.startswith(ONLY_TRAINING) for word in named)
    load("clippy_dino_max", scale="tiny", overrides=named)


def saved_run(folder: Path, *, content: bytes) -> None:
    """A run's folder with a checkpoint that no model is read from."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(load("clippy_dino_max", scale="tiny")))
    (folder / "checkpoints" / "last.ckpt").write_bytes(content)


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        (
            ["resume=last", "image.aggregation=avg"],
            b"",
            "is of another configuration: image.aggregation: max saved, avg given",
        ),
        (["resume=lightning_logs/none"], b"", "resume=lightning_logs/none: not found"),
    ],
)
def test_a_checkpoint_or_init_that_cannot_be_used_is_refused_by_the_early_check(
    words, content, message, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    saved_run(Path("lightning_logs/clippy_dino_max/tiny/version_0"), content=content)
    with pytest.raises(ValueError, match=message):
        check(parse(["train", "clippy_dino_max", "--scale", "tiny", *words]))


@pytest.mark.parametrize(
    "command", [["eval"], ["export", "--to", "out"], ["group", "a.png", "--to", "out", "--model"]]
)
@pytest.mark.parametrize(
    ("target", "message"),
    [("run", "neither a checkpoint, nor a run's folder"), ("clippy:none.pt", "file not found")],
)
def test_a_model_that_is_not_there_is_refused_before_torch(
    command, target, message, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    arguments = parse([*command, target])
    with pytest.raises(ValueError, match=message):
        check(arguments)
