"""score: score the label maps of any system, which lie in a folder, by a benchmark's truth."""

import shlex
import time
from argparse import Namespace
from pathlib import Path

import torch

from gestalt.commands.model_words import SCORE_KEYS
from gestalt.commands.process import quiet
from gestalt.commands.scoring import run_scorers, write_evaluation
from gestalt.commands.stopping import tell
from gestalt.config.identity import keys_below
from gestalt.config.loading import LOGS
from gestalt.config.schema import Experiment
from gestalt.measures.evaluation.predictions import STATEMENT
from gestalt.results.record import provenance
from gestalt.results.run_record import entries_of, metrics_of
from gestalt.runs.folders import check_writable
from gestalt.runs.predictions import Maps, build_predictions
from gestalt.support.files import files_hash
from gestalt.support.json_files import Fields, read_json
from gestalt.support.names import file_name
from gestalt.support.typed import ConfigError


def run(arguments: Namespace) -> int:
    """Score the folder, print the metrics and write ``evaluations/<n>.json`` in the folder of its
    records.
    """
    quiet()
    start = time.monotonic()
    config: Experiment = arguments.config
    kind = {"measure": arguments.measure, "values": arguments.values, "suffix": arguments.suffix}
    maps = Maps(arguments.maps, **kind, map_size=arguments.resize or "native")
    name = arguments.name or Path(arguments.folder).resolve().name
    output = Path(arguments.output) if arguments.output else LOGS / "predictions" / file_name(name)
    check_writable(output)  # before the time that scoring takes
    data, scorer, files = build_predictions(config, maps)
    stated = _statement(
        maps.folder, names=None if scorer.labels is None else list(scorer.labels.names)
    )
    parts = data.parts_scored(limit=config.evaluation.limit)
    tell("\n".join([f"scoring {len(files)} label maps in {maps.folder}", *parts]))
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
    record = {
        "experiment": "predictions",
        "name": name,
        "command": shlex.join(["gestalt", *arguments.words]),
        "overrides": arguments.overrides,
        # the other keys are placeholders
        "config": keys_below(config, ("evaluation.benchmarks=", *SCORE_KEYS)),
        "config_hash": None,
        "predictions": {
            "folder": str(maps.folder),
            "files": len(files),
            "sha256": files_hash(files, maps.folder),
            **kind,
            "notes": arguments.notes,
            "stated": stated,
        },
        "benchmarks": entries_of([scorer]),
        "ranks": trainer.world_size,
        "provenance": provenance(torch.device("cpu")),
        "metrics": metrics_of([scorer]),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_evaluation(output, record, [scorer])
    return 0


def _statement(folder: Path, names: list[str] | None) -> Fields | None:
    """Return the file in which ``eval --predictions`` states what made the maps; None without one.

    Args:
        folder: folder of the maps.
        names: names of the benchmark's classes; None for groups.

    Raises:
        ConfigError: it cannot be read, or the maps are of other classes.
    """
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
