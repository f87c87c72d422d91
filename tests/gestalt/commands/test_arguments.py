"""The parser, and checks that refuse a command before torch is imported."""

from pathlib import Path

import pytest

import gestalt
from gestalt.__main__ import parse
from gestalt.commands.eval import WORDS
from gestalt.config.schema import to_yaml
from tests.gestalt.tiny_config import tiny_config


def checked(line):
    """The arguments of a command line, after its check."""
    arguments = parse(line.split())
    arguments.checked = arguments.module.check(arguments)
    return arguments


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "eval any --split tune",
            "--split tune: needs --calibrate; to score another split write evaluation.split=tune",
        ),
        (
            "eval any --calibrate flickr",
            "--calibrate flickr: choose one that measures segmentation",
        ),
        (
            "score . --bench flickr",
            "--bench flickr: choose one that measures segmentation: scenes, ",
        ),
        (
            "score . --bench scenes image.eval_size=64",
            "image.eval_size=64: scoring label maps does not read it; leave it out",
        ),
        (
            "score . --bench pascal_voc",
            "benchmark_root=None: benchmark pascal_voc needs its files",
        ),
        (
            "score . --bench scenes --values zero",
            "--values zero: no such file; choose index, reduce_zero_label, truth, voc_colours, or",
        ),
        (
            "score . --bench scenes --values high.json",
            "(70000: a value is 0 to 65535)",
        ),
        (
            "score . --bench ade20k --measure grouping --values truth",
            "--values truth: each value of a map is a group",
        ),
        ("ablate ./mine.yaml", "grid ./mine.yaml: "),
        ("ablate --scale tiny --seeds 1000000000", "runs, at most 10,000; list fewer values or"),
    ],
)
def test_invalid_words_are_refused_in_one_line(line, message, cwd, refusal):
    (cwd / "high.json").write_text('{"70000": "dog"}')
    assert message in refusal(line)


def test_the_sub_folder_of_the_benchmark_is_read_and_values_and_notes_are_stored(cwd):
    Path("maps/scenes").mkdir(parents=True)
    Path("values.json").write_text('{"3": "dog", "7": null}')
    line = "score maps --bench scenes --values values.json --note protocol=a=b --note size=448"
    arguments = checked(line)
    assert arguments.checked.folder == Path("maps/scenes")
    assert arguments.checked.values == {3: "dog", 7: None}
    assert arguments.note == [("protocol", "a=b"), ("size", "448")]
    assert arguments.checked.config.evaluation.benchmarks == ["scenes"]
    words = ["ablate", "--submitit", "gpus_per_node=8", "--submitit", "slurm_partition=gpu"]
    assert parse(words).submitit == [("gpus_per_node", 8), ("slurm_partition", "gpu")]


@pytest.mark.parametrize("only_check", [False, True])
def test_features_are_written_unless_they_are_only_to_be_checked(only_check, tmp_path):
    line = f"features gestalt --scale tiny data.crops=1 image.frozen=true --to {tmp_path}"
    arguments = checked(f"{line}{' --check' * only_check}")
    assert arguments.check is only_check


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--version", f"gestalt {gestalt.__version__}\n"),
        ("--help", " --version "),
        ("ablate --help", "[key=value ...]"),
        ("list losses more", "list does not take more; gestalt list --help"),
        ("https://u:p@host/x?t=T", "error: https://host/x: no such command; choose"),
        (
            "train gestalt --bad",
            "train does not take --bad; keys are written without",
        ),
        ("train gestalt --image.aggregation=avg", "keys are written without dashes; gestalt"),
        ("trian gestalt", "trian: no such command; did you mean 'train'? choose one of train, "),
        ("eval any --sizes 32,64 --calibrate scenes", "not allowed with argument --sizes"),
        ("eval any --sizes 32,64 --predictions maps", "not allowed with argument --sizes"),
        (
            "data show flickr data.root=flickr --count 0",
            "argument --count: choose a whole number above 0, not '0'",
        ),
        ("score . --note mmseg", "argument --note: write KEY=VALUE, not 'mmseg'"),
        ("ablate --submitit =1", "argument --submitit: write KEY=VALUE, not '=1'"),
        (
            "ablate --submitit gpus_per_node=[",
            "argument --submitit: gpus_per_node: not YAML, write it in quotes: ",
        ),
    ],
)
def test_the_parser_shows_keys_and_refuses_words_too_many_flags_and_counts(line, message, capsys):
    with pytest.raises(SystemExit):
        parse(line.split())
    assert message in "".join(capsys.readouterr())


def test_the_keys_that_the_help_of_eval_names_are_read_by_scoring():
    from gestalt.models.opening import ONLY_TRAINING

    named = [word for word in WORDS.split() if "." in word or word.startswith("benchmark_root=")]
    assert len(named) == 3
    assert not any(word.startswith(ONLY_TRAINING) for word in named)
    tiny_config(*named)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "resume=last image.aggregation=avg",
            "is of another configuration: image.aggregation: max saved, avg given",
        ),
        ("resume=lightning_logs/none", "resume=lightning_logs/none: not found"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_by_the_early_check(line, message, cwd):
    folder = Path("lightning_logs/clippy_dino_max/tiny/version_0")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(tiny_config()))
    (folder / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ValueError, match=message):
        checked(f"train clippy_dino_max --scale tiny {line}")


def test_a_run_with_a_benchmark_whose_file_is_gone_is_refused_before_torch(cwd):
    (cwd / "lightning_logs/run/checkpoints").mkdir(parents=True)
    saved = to_yaml(tiny_config("evaluation.benchmarks=[scenes]"))
    (cwd / "lightning_logs/run/config.yaml").write_text(
        saved.replace("  - scenes\n", "  - ./gone.yaml\n")
    )
    (cwd / "lightning_logs/run/checkpoints/last.ckpt").touch()
    checked("eval lightning_logs/run evaluation.benchmarks=[scenes]")
    with pytest.raises(ValueError, match=r"gone\.yaml: cannot be read"):
        checked("eval lightning_logs/run")


def test_all_checkpoints_of_a_run_are_scored_in_the_order_of_their_steps(cwd):
    (cwd / "run/checkpoints").mkdir(parents=True)
    (cwd / "run/config.yaml").write_text(to_yaml(tiny_config()))
    names = ["last.ckpt", "step_2.ckpt", "step_10.ckpt"]
    for name in names:
        (cwd / "run/checkpoints" / name).touch()
    targets = checked("eval run --checkpoints all").checked.targets
    assert targets == [f"run/checkpoints/{name}" for name in names]


@pytest.mark.parametrize("command", ["eval", "export --to out", "group a.png --to out --model"])
@pytest.mark.parametrize(
    ("target", "message"),
    [("run", "neither a checkpoint, nor a run's folder"), ("clippy:none.pt", "file not found")],
)
def test_a_model_that_is_not_there_is_refused_before_torch(command, target, message, cwd):
    Path("a.png").touch()
    with pytest.raises(ValueError, match=message):
        checked(f"{command} {target}")
