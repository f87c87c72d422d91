"""eval: score one or several models, and print the metrics in one table.

With --checkpoints, all checkpoints of a run are scored. With --sizes or --protocols, one model is
scored at several sizes or under several protocols, and one JSON file and one plot are written. With
--calibrate, a background threshold is chosen for a model, and its effect on the score is reported.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any, NamedTuple

from gestalt.commands.flags import MODEL, add_keys, add_verbose
from gestalt.config.check import check_scoring
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, check_has_masks
from gestalt.measures.segmentation.presets import PRESETS
from gestalt.models.finding import check_target
from gestalt.models.names import config_of, run_of, unnamed_places
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

if TYPE_CHECKING:
    from gestalt.models.opening import Target

WORDS = (
    "further models; benchmarks, by name or by the path of a YAML file, and any key of the "
    "configuration that scoring reads, such as evaluation.benchmarks=[pascal_voc] "
    "benchmark_root=DIR evaluation.limit=100"
)


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add("target", help=MODEL)
    kind = parser.add_mutually_exclusive_group().add_argument
    kind("--sizes", help="score at each of these image sizes in pixels, and plot: 224,336,448")
    kind(
        "--calibrate",
        metavar="BENCHMARK",
        help="choose the background threshold of a benchmark with masks",
    )
    kind("--protocols", help="score segmentation under each of these protocols, or all, and plot")
    kind("--checkpoints", choices=["all"], help="score all checkpoints of the run")
    kind(
        "--predictions",
        metavar="DIR",
        help="write the predicted label maps to DIR/<benchmark>, for gestalt score or other "
        "programs",
    )
    add("--split", help="images for --calibrate to choose on (default: train; scenes: tune)")
    add("--output", metavar="DIR", help="folder for the results files (default: the run's)")
    add_verbose(parser)
    add_keys(parser, WORDS)


class Scoring(NamedTuple):
    """The models that ``eval`` scores, and the settings to score them with.

    Attributes:
        targets: the models, each once.
        overrides: key=value words, including those for the names of benchmarks and for
            ``--calibrate``.
        swept: the sizes or the protocols of a sweep; empty without one.
    """

    targets: list[str]
    overrides: list[str]
    swept: list[Any]


def check(arguments: Namespace) -> Scoring:
    """Read sizes and protocols, sort the words into models and overrides, and check the runs'
    configurations.
    """
    swept: list[Any] = []
    sizes = arguments.sizes
    protocols = arguments.protocols
    benchmark = arguments.calibrate
    words = [word for word in arguments.overrides if "=" in word]
    bare = [word for word in arguments.overrides if "=" not in word]
    # A path that is not a YAML file names a model.
    named = [
        word
        for word in bare
        if word in BENCHMARKS and ("/" not in word or word.endswith((".yaml", ".yml")))
    ]
    if named and (
        benchmark is not None or any(word.startswith("evaluation.benchmarks=") for word in words)
    ):
        raise ConfigError(f"eval {named[0]}: benchmarks are named twice; name all in one place")
    if arguments.split is not None and benchmark is None:
        raise ConfigError(
            f"--split {arguments.split}: needs --calibrate; to score another split write "
            f"evaluation.split={arguments.split}"
        )
    if sizes is not None:
        sides = [int(word) if word.strip().isdecimal() else 0 for word in sizes.split(",")]
        if len(set(sides)) < max(2, len(sides)) or min(sides) < 1:
            raise ConfigError(
                f'--sizes "{sizes}": name two or more different sizes in pixels, separated by '
                "commas, such as 224,448"
            )
        swept = sorted(sides)
    if protocols is not None:
        swept = _protocols(protocols)
    if benchmark is not None:
        check_has_masks(benchmark)
        words = ["evaluation.calibration=null", *words]
        named = [benchmark]
    models = [arguments.target, *(word for word in bare if word not in named)]
    if named:
        words.append(f"evaluation.benchmarks={json.dumps(named)}")
    found = (target for word in models for target in _targets(word, words, arguments))
    targets = list(dict.fromkeys(found))
    if len(targets) > 1 and arguments.predictions is not None:
        raise ConfigError(f"--predictions {arguments.predictions}: for one model; name one")
    return Scoring(targets, words, swept)


def _targets(word: str, overrides: list[str], arguments: Namespace) -> list[str]:
    """Check that a word names a model, and check the configuration if it is a run.  Returns the
    model, or with ``--checkpoints`` all checkpoints of the run.
    """
    try:
        checkpoint = check_target(word)
    except ConfigError as error:
        if word == arguments.target:
            raise
        raise ConfigError(f"{error}; nor a benchmark: {nearest(word, BENCHMARKS)}") from error
    if checkpoint is not None and (run := run_of(checkpoint)):
        # Reading a saved configuration does not check its files, but scoring needs them.
        config = config_of(checkpoint, run, overrides=overrides)
        unnamed_places(checkpoint, run, config, overrides).refuse("evaluation.benchmarks")
        check_scoring(config)
        if arguments.checkpoints:
            files = checkpoint.parent.glob("*.ckpt")
            return sorted(map(str, files), key=lambda file: (len(file), file))
    elif arguments.checkpoints:
        raise ConfigError(f"--checkpoints: {word} is no run of Gestalt; name one")
    return [word]


def _protocols(text: str) -> list[str]:
    """Split the text of ``--protocols`` into names of segmentation protocols, each once."""
    if text == "all":
        return [name for name in PRESETS if PRESETS[name].protocol.name == name]
    names = [word.strip() for word in text.split(",")]
    for name in names:
        if name not in PRESETS:
            raise ConfigError(
                f"--protocols {text}: {name!r} is unknown; {nearest(name, list(PRESETS))}, or all"
            )
    return list(dict.fromkeys(names))


def _with_root_read(target: "Target", words: list[str]) -> "Target":
    """Return the target, and refuse ``benchmark_root`` if none of its benchmarks reads files from
    it.
    """
    names = target.config.evaluation.benchmarks
    root = next((word for word in words if word.startswith("benchmark_root=")), None)
    if root is not None and not any(BENCHMARKS[name].layout for name in names):
        raise ConfigError(
            f"{root}: the benchmarks scored, {', '.join(names)}, do not read it; name others, such "
            "as evaluation.benchmarks=[pascal_voc], or leave it out"
        )
    return target


def run(arguments: Namespace) -> int:
    """Score, sweep sizes or protocols, or calibrate; print the metrics, and the record."""
    from gestalt.runs.score import open_target
    from gestalt.runs.sweep import calibrate, score_each, sweep_protocols, sweep_sizes

    targets, words, swept = arguments.checked
    opened = (
        _with_root_read(open_target(word, overrides=words, output=arguments.output), words)
        for word in targets
    )
    if arguments.calibrate is not None:
        for target in opened:
            print("record:", calibrate(target, arguments.calibrate, arguments.split))
    elif swept:
        sweep = sweep_sizes if arguments.sizes else sweep_protocols
        for target in opened:
            sweep(target, swept, words, verbose=arguments.verbose)
    else:
        # Targets may be names that are not paths.
        shared = os.path.commonprefix(targets).rpartition("/")[0]  # noqa: RUF071
        labels = (word.removeprefix(f"{shared}/") for word in targets)
        rows = ((label, target, words) for label, target in zip(labels, opened, strict=True))
        score_each(
            rows, of=len(targets), verbose=arguments.verbose, predictions=arguments.predictions
        )
    return 0
