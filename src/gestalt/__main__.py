"""The command line: one function a command, which says what is called.  Nothing heavy is imported early."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable

from gestalt.commands.arguments import parse


def main(words: list[str] | None = None) -> int:
    """Parse, call, and turn what a user can mend into one line.  Returns the exit status."""
    arguments = parse(words)
    try:
        status = COMMANDS[arguments.call](arguments)
    except ValueError as error:
        if arguments.debug:
            raise
        print(f"gestalt: {' '.join(str(error).split())} (--debug shows where)", file=sys.stderr)
        return 2
    return status


def _train(arguments: argparse.Namespace) -> int:
    from gestalt.config.check_launch import LAUNCHERS, check_nodes, check_places, check_training
    from gestalt.config.loading import load

    config = load(arguments.experiment, scale=arguments.scale, overrides=arguments.overrides)  # a typo stops here, before torch is imported
    check_nodes(config, os.environ)
    check_training(config)
    check_places(config)
    from gestalt.commands.train import train

    words = shlex.join(word for word in arguments.overrides if not word.startswith("resume="))
    same = ", started as this was," if any(name in os.environ for name in LAUNCHERS) else ""
    again = f"\ngo on{same} with: {_program()} train {arguments.experiment} --scale {arguments.scale} {words} resume=last"
    return _until_stopped(lambda: train(config, overrides=arguments.overrides), again=again)


def _pretrain(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from gestalt.config.check_data import check_options
    from gestalt.config.check_launch import check_nodes
    from gestalt.config.loading import load, load_saved
    from gestalt.config.schema import uses_made

    if (arguments.init is None) == (arguments.config is None):
        raise ValueError("pretrain: give --init dino or --init supervised, or the --config of a run; and not both")
    if arguments.config is not None:
        config = load_saved(Path(arguments.config), overrides=arguments.overrides)
    else:
        asked = [f"image.init={arguments.init}", f"image.inits.{arguments.init}=made", "evaluation.benchmarks=[]"]
        config = load(None, scale=arguments.scale, overrides=[*asked, *arguments.overrides])
    if not uses_made(config):
        raise ValueError(f"image.init={config.image.init}: this configuration does not start from weights made here")
    check_nodes(config, os.environ)
    check_options(config)
    from gestalt.commands.pretrain import pretrain

    again = "; the same command goes on from there"
    return _until_stopped(lambda: _say(f"image.init {config.image.init}: {pretrain(config)}"), again=again)


def _until_stopped(work: Callable[[], object], *, again: str) -> int:
    """Call; after Ctrl-C or SIGTERM say how to go on, after a loss that is no number where it was, after too much bad data what it is."""
    from gestalt.callbacks.bad_samples import TooManyBad
    from gestalt.callbacks.checkpoints import Interrupted
    from gestalt.module import NonFiniteLoss

    try:
        work()
    except Interrupted as stop:
        _say(f"gestalt: {stop}{again}")
        return 128 + stop.signal_number
    except (NonFiniteLoss, TooManyBad) as error:
        _say(f"gestalt: {error}")
        return 1
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    words = [word for word in (arguments.grid, *arguments.overrides) if word]
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ValueError(f"ablate: {' '.join(names)}: one grid at a time; overrides are key=value")
    from gestalt.studies.grid import read_grid

    overrides = tuple(word for word in words if "=" in word)
    name = (names or ["aggregation_by_init"])[0]
    grid = read_grid(name, scale=arguments.scale, overrides=overrides, choose=tuple(arguments.choose))  # a typo stops here
    from gestalt.commands.ablate import ablate
    from gestalt.studies.cluster import read_parameters
    from gestalt.studies.pool import Stopped

    flags = {key: getattr(arguments, key) for key in ("seeds", "jobs", "dry_run", "allow_mixed", "cluster")}
    try:
        return 0 if ablate(grid, **flags, parameters=read_parameters(arguments.submitit)) else 1
    except Stopped as stop:
        _say(f"gestalt: {stop}\ngo on with: {_program()} {shlex.join(arguments.words)}")
        return 128 + stop.signal_number


def _program() -> str:
    """How this program was called, for a line that can be typed."""
    from pathlib import Path

    called = Path(sys.argv[0])
    if called.name != "__main__.py":
        return str(called)
    python = Path(sys.executable)
    return f"{python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python} -m gestalt"


def _say(message: str) -> None:
    from gestalt.runs.folders import first_rank

    if first_rank():
        print(message, file=sys.stderr)


def _check_saved(target: str, overrides: list[str]) -> None:
    """A run that is not there, and a key or a value that cannot be, stop here, before torch is imported."""
    from gestalt.config.loading import load_saved
    from gestalt.runs.names import resolve_checkpoint, run_folder

    if not target.startswith("zoo:"):
        load_saved(run_folder(resolve_checkpoint(target)) / "config.yaml", overrides=overrides)


def _eval(arguments: argparse.Namespace) -> int:
    _check_saved(arguments.target, arguments.overrides)
    from gestalt.commands.evaluate import evaluate

    evaluate(arguments.target, overrides=arguments.overrides)
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from gestalt.config.check_evaluation import check_has_masks

    check_has_masks(arguments.bench)
    _check_saved(arguments.target, ["evaluation.calibration=null", *arguments.overrides, f"evaluation.benchmarks=[{arguments.bench}]"])
    from gestalt.commands.calibrate import calibrate

    path = calibrate(arguments.target, benchmark=arguments.bench, split=arguments.split, overrides=arguments.overrides)
    print(f"record: {path}")
    return 0


def _vocabulary(arguments: argparse.Namespace) -> int:
    from gestalt.commands.vocabulary import vocabulary

    found, new = vocabulary(lists_wanted=arguments.list, label_sets=arguments.label_set, target=arguments.ckpt, cosine=arguments.cosine)
    print(found)
    if new:
        print(f"gestalt: {new} not known; mend the words, or say in evaluation/vocabularies/known.json why they stay", file=sys.stderr)
    return 1 if new else 0


def _sweep(arguments: argparse.Namespace) -> int:
    sizes = [int(word) if word.strip().isdecimal() else 0 for word in arguments.sizes.split(",")]
    if len(set(sizes)) < max(2, len(sizes)) or min(sizes) < 1:
        raise ValueError(f'--sizes "{arguments.sizes}": name two or more different sizes in pixels, separated by commas, such as 224,448')
    _check_saved(arguments.target, arguments.overrides)
    from gestalt.commands.sweep import sweep

    path = sweep(arguments.target, sizes=sorted(sizes), overrides=arguments.overrides)
    if path is not None:
        print(f"sweep: {path} and {path.with_suffix('.png').name}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from gestalt.ledger.compare import compare
    from gestalt.ledger.comparison_text import WRITERS
    from gestalt.ledger.result import read_results

    table = compare(read_results(arguments.targets), metrics=arguments.metric, allow_mixed=arguments.allow_mixed)
    print(WRITERS[arguments.format](table), end="")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from gestalt.ledger.report import write_report
    from gestalt.ledger.result import read_results

    print(write_report(read_results(arguments.targets, evaluations=True), Path(arguments.output)))
    return 0


def _segment(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    labels = [label.strip() for label in arguments.labels.split(",") if label.strip()]
    if len(labels) < 2:
        raise ValueError(f'--labels "{arguments.labels}": name two or more, separated by commas, such as "dog, grass"')
    if len(set(labels)) < len(labels):
        raise ValueError(f'--labels "{arguments.labels}": names one twice; name each once')
    if not Path(arguments.image).is_file():
        raise ValueError(f"{arguments.image}: no such file; name a picture")
    if arguments.output and Path(arguments.output).suffix.lower() != ".png":
        raise ValueError(f"--output {arguments.output}: what is written is a PNG; name a file that ends in .png")
    from gestalt.commands.segment import segment

    print(segment(arguments.image, labels=labels, target=arguments.ckpt, output=arguments.output))
    return 0


def _data(arguments: argparse.Namespace) -> int:
    from gestalt.config.check_data import check_options
    from gestalt.config.check_launch import check_places
    from gestalt.config.loading import load

    limit = [] if getattr(arguments, "limit", None) is None else [f"data.limit={arguments.limit}"]
    asked = [f"data.source={arguments.source}", "evaluation.benchmarks=[]", "image.init=random", *arguments.overrides, *limit]
    config = load(None, scale=arguments.scale, overrides=asked)  # a typo stops here
    check_options(config)
    if arguments.tool != "inspect" or config.data.manifest is None:  # which is refused there, wherever it lies
        check_places(config)
    from gestalt.commands import data as data_tools

    if arguments.tool == "inspect":
        print(data_tools.inspect_data(config, to=arguments.to))
    elif arguments.tool == "pack":
        print(data_tools.pack_data(config, to=arguments.to, shards=arguments.shards))
    else:
        print(data_tools.show_data(config, to=arguments.to, count=arguments.count, columns=arguments.columns))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "pretrain": _pretrain,
    "ablate": _ablate,
    "eval": _eval,
    "calibrate": _calibrate,
    "vocabulary": _vocabulary,
    "sweep": _sweep,
    "compare": _compare,
    "report": _report,
    "segment": _segment,
    "data": _data,
}


if __name__ == "__main__":
    sys.exit(main())
