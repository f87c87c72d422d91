"""score: score a folder of label maps from any system against the ground truth of a benchmark."""

import json
import shlex
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

from gestalt.commands.flags import add_keys, add_verbose, pair
from gestalt.config.check import check_places
from gestalt.config.folders import LOGS
from gestalt.config.loading import load
from gestalt.config.schema import Experiment, keys_below
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, check_has_masks
from gestalt.support.files import Fields, files_hash, read_json
from gestalt.support.keys import Reader, words_read_by
from gestalt.support.names import file_name
from gestalt.support.typed import ConfigError

VALUES = {
    "index": "class indices",
    "reduce_zero_label": "index + 1, 0 is no class",
    "truth": "as in the benchmark's masks",
    "voc_colours": "RGB",
}
"""Kind of values in label maps -> its description."""

SCORE_KEYS = words_read_by(Reader.LABEL_MAPS, Experiment)
"""Prefixes of the overrides that scoring label maps reads."""


def flags(parser: ArgumentParser) -> None:
    """Declare the flags."""
    add = parser.add_argument
    add(
        "folder",
        metavar="DIR",
        help="label maps: indexed or grey PNG (8 or 16 bits) or .npy, named by the benchmark's "
        "images; or with a sub-folder of the benchmark's name",
    )
    add(
        "--bench",
        required=True,
        help="one that measures segmentation, such as pascal_voc or ./mine.yaml",
    )
    add("--name", help="name of the system in tables (default: the folder's)")
    add(
        "--measure",
        choices=("segmentation", "grouping"),
        default="segmentation",
        help="whether values of the maps are classes or groups",
    )
    kinds = ", ".join(f"{kind} ({meaning})" for kind, meaning in VALUES.items())
    add(
        "--values",
        metavar="KIND|FILE",
        default="index",
        help=f"{kinds}; or a JSON of value to class name or null",
    )
    add(
        "--suffix",
        default="",
        help="what follows the image's name in the names of the files: --suffix=_leftImg8bit",
    )
    add(
        "--resize",
        choices=("nearest",),
        help="resize maps that have another size than the truth (default: refuse them)",
    )
    add(
        "--note",
        metavar="KEY=VALUE",
        type=pair,
        action="append",
        default=[],
        help="a fact for the results file, such as protocol=...; repeatable",
    )
    add(
        "--output",
        metavar="DIR",
        help="folder for the results files (default: lightning_logs/predictions/<name>)",
    )
    add_verbose(parser)
    add_keys(
        parser,
        "of the benchmark's data, such as benchmark_root=DIR evaluation.split=val "
        "benchmark_subset=true",
    )


class LabelMaps(NamedTuple):
    """The label maps to score.

    Attributes:
        config: the configuration of the benchmark.
        folder: folder that holds the maps.
        values: the kind of the values, or the class of each value.
    """

    config: Experiment
    folder: Path
    values: str | dict[int, str | None]


def check(arguments: Namespace) -> LabelMaps:
    """Check the arguments.  Returns the configuration, the folder and the values of the label
    maps.
    """
    benchmark = arguments.bench
    measure = arguments.measure
    values = arguments.values
    check_has_masks(benchmark, option="--bench", measure=measure)
    if measure == "grouping" and values != "index":
        raise ConfigError(
            f"--values {values}: each value of a map is a group under --measure grouping; leave it "
            "out"
        )
    for word in arguments.overrides:
        if not word.startswith(SCORE_KEYS):
            raise ConfigError(
                f"{word}: scoring label maps does not read it; leave it out (read: "
                f"{', '.join(SCORE_KEYS)})"
            )
    last = f"evaluation.benchmarks={json.dumps([benchmark])}"
    words = ["data.source=scenes", *arguments.overrides, last]
    config = load(None, scale=None, overrides=words)
    check_places(config)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the one that holds the label maps")
    inner = folder / BENCHMARKS[benchmark].name
    if measure == "grouping":
        values = "groups"
    elif values not in VALUES:
        values = _values(Path(values))
    return LabelMaps(config, inner if inner.is_dir() else folder, values)


def _values(path: Path) -> dict[int, str | None]:
    """Read a file that maps each value to the name of a class, or to None for no class."""
    if not path.is_file():
        raise ConfigError(
            f"--values {path}: no such file; choose {', '.join(VALUES)}, or a JSON of value to "
            "class name"
        )
    try:
        content = read_json(path, "values")
        values = {int(value): name for value, name in content.items()}
        if len(values) < len(content):
            raise ValueError("a value is given twice")
        for value in values:
            if not 0 <= value < 2**16:
                raise ValueError(f"{value}: a value is 0 to 65535")
    except ValueError as error:
        raise ConfigError(
            f'--values {path}: not JSON such as {{"0": "background", "255": null}} ({error})'
        ) from error
    return values


def run(arguments: Namespace) -> int:
    """Score the folder, print the metrics and write ``evaluations/<n>.json`` in the output
    folder.
    """
    import torch

    from gestalt.results.record import provenance
    from gestalt.results.run_record import print_result, scores_of
    from gestalt.runs.evaluation import build_predictions
    from gestalt.runs.folders import check_writable
    from gestalt.runs.score import run_scorers, write_evaluation
    from gestalt.support.process import tell

    start = time.monotonic()
    maps: LabelMaps = arguments.checked
    config, folder = maps.config, maps.folder
    kind = {"measure": arguments.measure, "values": maps.values, "suffix": arguments.suffix}
    name = arguments.name or Path(arguments.folder).resolve().name
    output = Path(arguments.output) if arguments.output else LOGS / "predictions" / file_name(name)
    check_writable(output)  # before the time that scoring takes
    data, scorer, files = build_predictions(
        config, folder, **kind, map_size=arguments.resize or "native"
    )
    stated = _statement(folder, names=None if scorer.labels is None else list(scorer.labels.names))
    parts = data.parts_scored(limit=config.evaluation.limit)
    tell("\n".join([f"scoring {len(files)} label maps in {folder}", *parts]))
    trainer = run_scorers(
        None,
        data,
        [scorer],
        output,
        accelerator="cpu",
        devices=1,
        rank_timeout=config.rank_timeout,
        enable_progress_bar=config.trainer.enable_progress_bar,
    )
    metrics, entries = scores_of([scorer])
    record = {
        "metrics": metrics,
        "experiment": "predictions",
        "name": name,
        "command": shlex.join(["gestalt", *arguments.words]),
        "overrides": arguments.overrides,
        # The other keys of the configuration are placeholders.
        "config": keys_below(config, ("evaluation.benchmarks=", *SCORE_KEYS)),
        "config_hash": None,
        "predictions": {
            "folder": str(folder),
            "files": len(files),
            "sha256": files_hash(files, folder),
            **kind,
            "notes": dict(arguments.note),
            "stated": stated,
        },
        "benchmarks": entries,
        "ranks": trainer.world_size,
        "provenance": provenance(torch.device("cpu")),
        "seconds": round(time.monotonic() - start, 1),
    }
    print_result(write_evaluation(output, record, [scorer]), verbose=arguments.verbose)
    return 0


def _statement(folder: Path, names: list[str] | None) -> Fields | None:
    """Read the file in which ``eval --predictions`` describes the origin of the maps; None if there
    is no file.

    Args:
        folder: folder of the maps.
        names: names of the benchmark's classes; None for groups.

    Raises:
        ConfigError: the file cannot be read, or it lists other classes.
    """
    from gestalt.measures.evaluation.pictures import STATEMENT

    path = folder / STATEMENT
    if not path.exists():
        return None
    try:
        stated = read_json(path, "predictions")
    except ValueError as error:
        raise ConfigError(
            f"{path}: not the JSON that `gestalt eval --predictions` writes ({error}); move the "
            "file away"
        ) from error
    theirs = stated["names"]
    if names is not None and theirs != names:
        raise ConfigError(
            f"{path}: maps of {len(theirs)} classes, {', '.join(theirs[:3])}, ...; name the "
            "--bench that has these"
        )
    return stated
