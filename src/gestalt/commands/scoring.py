"""Scoring: resolve a target to a model with its configuration, evaluate it, write the record."""

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback

from gestalt.building.checkpoint import load_model
from gestalt.building.evaluation import build_evaluation
from gestalt.building.guest import open_guest
from gestalt.building.model import check_machine
from gestalt.building.source import train_size
from gestalt.callbacks.profiling import build_profiler
from gestalt.callbacks.trainer import make_trainer
from gestalt.config.check_launch import check_nodes
from gestalt.config.identity import flatten, to_plain, unflatten
from gestalt.config.loading import WHOLE, load_saved
from gestalt.config.schema import ConfigError, Experiment
from gestalt.encoders.dense_model import DenseModel
from gestalt.evaluation.weights import weights_hash
from gestalt.ledger.label_maps import state_origin, write_maps
from gestalt.ledger.outcome import describe, metrics_of, scored_images, write_outcome
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.module import ScoredModule
from gestalt.runs.folders import check_writable, claimed, first_rank, new_evaluation
from gestalt.runs.names import guest_of, resolve_checkpoint, run_folder
from gestalt.support.files import file_hash

THIS_MACHINE = ("trainer.num_nodes=1", "trainer.devices=auto", "trainer.strategy=auto")
"""Overrides of a saved run: it is scored on the machine of the command, not on those of the training."""

ONLY_TRAINING = (
    *("seed", "resume", "logger", "optimizer.", "loss.", "pretraining."),
    *("data.limit", "data.batch_size", "trainer.max_", "checkpoint_every_steps"),
)
"""Beginnings of keys that only training reads."""


class Target(NamedTuple):
    """A model to score.

    Attributes:
        config: of the evaluation.
        model: with its weights.
        folder: of its records.
        identity: fields of the record that identify the weights; ``checkpoint`` is shown in messages.
        trained_at: side of the training images, pixels; None for a model of the zoo.
    """

    config: Experiment
    model: DenseModel
    folder: Path
    identity: dict[str, Any]
    trained_at: int | None


class Scored(NamedTuple):
    """The result of scoring.

    Attributes:
        metrics: by key.
        images: benchmark -> how many of its images were scored, as text.
        path: the record, on the first rank; None on the others.
    """

    metrics: dict[str, float]
    images: dict[str, str]
    path: Path | None


def open_target(target: str, *, overrides: list[str], output: str | None = None) -> Target:
    """Resolve a target to its model and configuration.

    All images of a benchmark are scored, even if the run was limited to some, unless ``overrides`` set ``evaluation.limit``.

    Args:
        target: a checkpoint, a run's folder, an experiment's name for its newest run, or a model of the zoo.
        overrides: ``key=value`` words on the saved configuration, such as ``benchmark_root=DIR``.
        output: folder for the records; None for the run's.

    Raises:
        ValueError: no such target, a configuration that cannot be scored, or weights that do not fit it.
    """
    opened = (_open_run if guest_of(target) is None else _open_guest)(target, overrides=overrides)
    opened = opened if output is None else opened._replace(folder=Path(output))
    if first_rank():
        check_writable(opened.folder)  # before the time that scoring takes
    return opened


def _open_guest(target: str, *, overrides: list[str]) -> Target:
    guest = open_guest(target, overrides=overrides)
    digest = None if guest.file is None else file_hash(guest.file)
    origin, text = guest.model.image_origin, guest.model.text_origin
    identity = {
        **{"experiment": "zoo", "checkpoint": target, **({} if digest is None else {"checkpoint_sha256": digest})},
        **{"model": guest.description, "config": unflatten(guest.settings()), "config_hash": None},
        "text_init": None if text is None else {"asked": target, "used": text.init, "source": text.source},
        "image_init": {"asked": target, "used": origin.init, "source": origin.source, "sha256": digest},
    }
    return Target(guest.config, guest.model, folder=guest.folder, identity=identity, trained_at=None)


def _open_run(target: str, *, overrides: list[str]) -> Target:
    checkpoint = resolve_checkpoint(target)
    folder = run_folder(checkpoint)
    saved = load_saved(folder / "config.yaml")
    config = load_saved(folder / "config.yaml", overrides=[WHOLE, *THIS_MACHINE, *overrides])
    _refuse_training_keys(config, saved)
    check_nodes(config, os.environ)
    check_machine(config)
    model = load_model(checkpoint, replace(config, image=replace(config.image, eval_size=saved.image.eval_size)))
    identity = {"checkpoint": str(checkpoint), "checkpoint_sha256": file_hash(checkpoint)}
    return Target(config, model, folder=folder, identity=identity, trained_at=train_size(saved))


def _refuse_training_keys(config: Experiment, saved: Experiment) -> None:
    """Refuse changes of keys that only training reads: the record says what its checkpoint was trained with."""
    before = flatten(to_plain(saved))
    for key, value in flatten(to_plain(config)).items():
        if key.startswith(ONLY_TRAINING) and value != before.get(key):
            raise ConfigError(f"{key}={value}: the run had {before.get(key)}, and scoring does not read it; leave it out")


def score(target: Target, *, overrides: list[str], only: frozenset[str] | None = None, predictions: Path | None = None) -> Scored:
    """Score a model on the benchmarks of its configuration, print the metrics and write ``evaluations/<n>.json`` in its folder.

    Args:
        target: the model with its configuration.
        overrides: the words that it was opened with, for the record.
        only: the measures to score; None for all.
        predictions: folder for the predicted class maps; None to write none.

    Raises:
        ConfigError: the folder holds something already, or no benchmark measures segmentation.
    """
    start = time.monotonic()
    config, model = target.config, target.model
    if first_rank():
        split = "" if config.evaluation.split is None else f", split {config.evaluation.split}"
        print(f"scores {target.identity['checkpoint']}{split}", file=sys.stderr)
    validation, callbacks = build_evaluation(config, has_text=model.has_text, only=only)
    written = [] if predictions is None else write_maps(callbacks, predictions)
    if first_rank():
        for line in [*validation.parts_scored(limit=config.evaluation.limit), *_other_weights(callbacks, model)]:
            print(line, file=sys.stderr)
    profiler = build_profiler(config.trainer.profiler, target.folder / "profile" if first_rank() else None)
    keywords = {**asdict(config.trainer), "profiler": profiler}
    keywords |= {"rank_timeout": config.rank_timeout, "logger": False, "enable_checkpointing": False}
    trainer = make_trainer(target.folder, **keywords, callbacks=callbacks)
    trainer.validate(ScoredModule(model), datamodule=validation, verbose=False)
    metrics = metrics_of(callbacks)
    record = {
        **describe(config, trainer, model, kept="", overrides=overrides),
        **target.identity,
        "weights_sha256": weights_hash(model),
        "metrics": metrics,
        "seconds": round(time.monotonic() - start, 1),
    }
    path = None
    if trainer.is_global_zero:
        with claimed(new_evaluation(target.folder)) as path:
            write_outcome(path, record, callbacks, arrays=path.with_suffix(""), extremes=path.with_suffix(""))
            state_origin(written, record)
    return Scored(metrics, scored_images(record["benchmarks"]), path)


def _other_weights(callbacks: list[Callback], model: DenseModel) -> list[str]:
    """Return a warning for each benchmark whose threshold was calibrated with other weights than the model's."""
    calibrated = [scorer for scorer in callbacks if isinstance(scorer, Segmentation) and scorer.calibration is not None]
    weights = weights_hash(model) if calibrated else ""
    return [
        f"{scorer.name}: its threshold was calibrated with other weights ({scorer.calibration['file']})"
        for scorer in calibrated
        if scorer.calibration is not None and scorer.calibration["weights_sha256"] != weights
    ]
