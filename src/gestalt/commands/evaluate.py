"""evaluate, segment: what the command line calls for a model that is trained."""

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, Trainer

from gestalt.building.checkpoint import load_model
from gestalt.building.evaluation import build_evaluation
from gestalt.building.guest import is_guest, open_guest
from gestalt.building.model import check_machine
from gestalt.building.training import build_module
from gestalt.callbacks.profiling import build_profiler
from gestalt.commands.process import quiet
from gestalt.config.check_launch import check_nodes
from gestalt.config.identity import flatten, to_plain
from gestalt.config.loading import WHOLE, load_saved
from gestalt.config.schema import ConfigError, Experiment
from gestalt.evaluation.predictions import EXTREMES, write_extremes
from gestalt.ledger.outcome import describe, metrics_of, print_metrics, scored_images, scorers_of
from gestalt.ledger.per_image import file_hash, write_per_image
from gestalt.ledger.record import weights_hash, write_record
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.model import DualEncoder
from gestalt.runs.folders import first_rank, new_evaluation
from gestalt.runs.names import resolve_checkpoint, run_folder

HERE = ("trainer.num_nodes=1", "trainer.devices=auto", "trainer.strategy=auto")
"""A run is scored where the command is given, whatever machines it was trained on."""


OF_TRAINING = (
    "seed",
    "resume",
    "optimizer.",
    "loss.",
    "pretraining.",
    "data.limit",
    "data.batch_size",
    "trainer.max_",
    "checkpoint_every_steps",
)
"""Beginnings of keys that only training reads."""


class Opened(NamedTuple):
    """A model to score.

    Attributes:
        config: what it is scored under.
        model: with its weights.
        folder: where scores go.
        said: what tells what was scored, for the record.
        trained_at: pixels a side of the images that its run trained on; None for a model of the zoo.
    """

    config: Experiment
    model: DualEncoder
    folder: Path
    said: dict[str, Any]
    trained_at: int | None


class Scored(NamedTuple):
    """What a score came to.

    Attributes:
        metrics: by key.
        images: how many of how many, by benchmark.
        path: the record, on the first rank; None elsewhere.
    """

    metrics: dict[str, float]
    images: dict[str, str]
    path: Path | None


def evaluate(target: str, *, overrides: list[str]) -> dict[str, float]:
    """Score a checkpoint on the benchmarks of its run's config, or of ``overrides``; writes ``evaluations/<n>.json`` in the run's folder.

    All images are scored, whatever the run was limited to, unless ``overrides`` have an ``evaluation.limit``.

    Args:
        target: a checkpoint, a run's folder, an experiment's name for its newest run, or a model of the zoo.
        overrides: ``key=value`` words on the saved config, such as ``benchmark_root=DIR``.
    """
    quiet()
    return score(opened(target, overrides=overrides), overrides=overrides).metrics


def opened(target: str, *, overrides: list[str]) -> Opened:
    """What ``evaluate`` takes, with its config and model."""
    if is_guest(target):
        guest = open_guest(target, overrides=overrides)
        hashed = {} if guest.file is None else {"checkpoint_sha256": file_hash(guest.file)}
        used = {"asked": target, "used": guest.model.image_tower.origin.init, "source": guest.model.image_tower.origin.source}
        said = {"experiment": "zoo", "checkpoint": target, **hashed, "image_init": {**used, "sha256": hashed.get("checkpoint_sha256")}}
        guest.folder.mkdir(parents=True, exist_ok=True)
        return Opened(guest.config, guest.model, folder=guest.folder, said=said, trained_at=None)
    checkpoint = resolve_checkpoint(target)
    saved = load_saved(run_folder(checkpoint) / "config.yaml")
    config = load_saved(run_folder(checkpoint) / "config.yaml", overrides=[WHOLE, *HERE, *overrides])
    _refuse_training(config, saved)
    check_nodes(config, os.environ)
    check_machine(config)
    model = load_model(checkpoint, replace(config, image=replace(config.image, eval_size=saved.image.eval_size)))
    said = {"checkpoint": str(checkpoint), "checkpoint_sha256": file_hash(checkpoint)}
    trained_at = saved.image.train_size if saved.image.subsampling else saved.image.eval_size
    return Opened(config, model, folder=run_folder(checkpoint), said=said, trained_at=trained_at)


def _refuse_training(config: Experiment, saved: Experiment) -> None:
    """A record says what its checkpoint was trained with: keys that only training reads stay what they were."""
    here, there = (flatten(to_plain(one)) for one in (config, saved))
    for key, value in here.items():
        if key.startswith(OF_TRAINING) and value != there.get(key):
            raise ConfigError(f"{key}={value}: the run had {there.get(key)}, and scoring does not read it; leave it out")


def score(found: Opened, *, overrides: list[str]) -> Scored:
    """Score a model and write ``evaluations/<n>.json``."""
    start = time.monotonic()
    config, model = found.config, found.model
    if first_rank():
        split = "" if config.evaluation.split is None else f", split {config.evaluation.split}"
        print(f"scores {found.said['checkpoint']}{split}", file=sys.stderr)
    validation, callbacks = build_evaluation(config)
    if first_rank():
        for line in [*validation.parts_scored(limit=config.evaluation.limit), *_other_weights(callbacks, model)]:
            print(line, file=sys.stderr)
    profiler = build_profiler(config.trainer.profiler, found.folder / "profile" if first_rank() else None)
    keywords = {**asdict(config.trainer), "profiler": profiler}
    trainer = Trainer(**keywords, logger=False, callbacks=callbacks, enable_checkpointing=False, use_distributed_sampler=False)
    trainer.validate(build_module(config, model, total_steps=1), datamodule=validation, verbose=False)
    metrics = metrics_of(callbacks)
    record = {
        **describe(config, trainer, model, kept="", overrides=overrides),
        **found.said,
        "weights_sha256": weights_hash(model),
        "metrics": metrics,
        "seconds": round(time.monotonic() - start, 1),
    }
    images = scored_images(record["benchmarks"])
    if not trainer.is_global_zero:
        return Scored(metrics, images, None)
    path = new_evaluation(found.folder)
    scorers = scorers_of(callbacks)
    write_extremes(path.with_suffix("") / EXTREMES, scorers)
    write_record(path, {**record, "arrays": write_per_image(path.with_suffix(""), scorers)})
    print(f"result: {path}", file=sys.stderr, flush=True)
    print_metrics(metrics, images=images)
    return Scored(metrics, images, path)


def _other_weights(callbacks: list[Callback], model: DualEncoder) -> list[str]:
    """A line for each benchmark whose threshold was calibrated with other weights than those that are scored."""
    said = {one.name: one.calibration for one in callbacks if isinstance(one, Segmentation) and one.calibration is not None}
    weights = weights_hash(model) if said else ""
    return [
        f"{name}: its threshold was calibrated with other weights ({calibration['file']})"
        for name, calibration in said.items()
        if calibration["weights_sha256"] != weights
    ]
