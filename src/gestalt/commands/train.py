"""train: what the command line calls."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger

from gestalt.building.checkpoint import read_checkpoint
from gestalt.building.evaluation import build_evaluation
from gestalt.building.model import build_model, check_machine, check_names
from gestalt.building.source import build_source, product_of, steps
from gestalt.building.training import build_bad_samples, build_data, build_module
from gestalt.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, EpochCheckpoint, SaveOnSignal, StepCheckpoint
from gestalt.callbacks.clock import Clock
from gestalt.callbacks.profiling import build_profiler
from gestalt.callbacks.speed import Board, RunProgressBar, Speed
from gestalt.commands.process import keep_freed_memory, quiet
from gestalt.config.identity import config_hash, hashed_keys, to_yaml
from gestalt.config.loading import LOGS
from gestalt.config.schema import Experiment, uses_made
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.predictions import EXTREMES, write_extremes
from gestalt.ledger.outcome import describe, metrics_of, print_metrics, scored_images, scorers_of
from gestalt.ledger.per_image import file_hash, write_per_image
from gestalt.ledger.record import weights_hash, write_record
from gestalt.model import DualEncoder
from gestalt.module import ContrastiveModule
from gestalt.pretraining import making
from gestalt.runs.folders import first_rank, hold, new_version, resolve_resume
from gestalt.runs.names import LAST, run_folder


def train(config: Experiment, *, overrides: list[str]) -> dict[str, float]:
    """Train, score after each epoch, and write ``result.json`` in the run's folder.  Returns the final metrics.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is no longer a number.
        TooManyBad: more samples cannot be read than ``data.max_bad_share``.
        ValueError: the configuration cannot run.
    """
    quiet()
    check_names(config)
    check_machine(config)
    keep_freed_memory()
    resumed = resolve_resume(config)
    start = time.monotonic()
    data, callbacks, steps_per_epoch, total_steps = _data(config)  # before the minutes that an init takes: it may be refused
    if uses_made(config):
        before = time.monotonic()
        making.ensure(product_of(config), config)
        start += time.monotonic() - before  # what is made once and shared is no part of the run's time
    model = build_model(config)
    module = build_module(config, model, total_steps=total_steps)
    folder = run_folder(resumed) if resumed else new_version(config)
    bad_samples = build_bad_samples(config)
    lock = hold(folder) if folder and first_rank() else None  # until this function returns
    lines = _first_lines(config, model, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    _announce(config, [*lines, data.summary(), f"run: {folder}"], folder=folder)
    finished = None if resumed is None else _restore_finished(module, resumed, total_steps=total_steps)
    clock = Clock(start)
    left = None if finished is not None else total_steps
    trainer = _trainer(config, [*callbacks, bad_samples, clock], folder=folder, lines=lines, total_steps=left)
    _fit(trainer, module, data, resumed=resumed, finished=finished)
    metrics = metrics_of(callbacks)
    record = {
        **describe(config, trainer, model, kept=module.kept, overrides=overrides),
        "steps": trainer.global_step,
        "steps_planned": total_steps,
        "loss": module.last_loss,
        "weights_sha256": weights_hash(model),
        "best": _best(trainer),
        "data": {**data.about(), "bad_samples": bad_samples.record()},
        "seconds": clock.seconds,
        "seconds_since_start_or_resume": round(time.monotonic() - start, 1),
    }
    _finish(trainer, folder, record=record, metrics=metrics, config=config)
    if lock is not None:
        lock.close()
    return metrics


def _data(config: Experiment) -> tuple[Any, list[Callback], int, int]:
    source = build_source(config)
    steps_per_epoch, total_steps = steps(config, source)
    validation, callbacks = build_evaluation(config)
    data = build_data(config, source, validation=validation)
    return data, callbacks, steps_per_epoch, total_steps


def _restore_finished(module: ContrastiveModule, checkpoint: Path, *, total_steps: int) -> dict[str, Any] | None:
    """Load the weights to report of a run that was stopped after its last step.  Returns the checkpoint, None where steps are left."""
    saved = read_checkpoint(checkpoint)
    if saved["global_step"] < total_steps:
        return None
    module.load_state_dict(saved["state_dict"])  # the averaged weights, where there are any
    module.on_load_checkpoint(saved)
    return saved


def _fit(trainer: Trainer, module: ContrastiveModule, data: Any, *, resumed: Path | None, finished: dict[str, Any] | None) -> None:
    """Train what is left, if anything, and score the last weights, if no epoch's end has."""
    if finished is not None:
        trainer.fit_loop.load_state_dict(finished["loops"]["fit_loop"])  # so that it logs at its own step
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback.state_key in finished["callbacks"]:
                callback.load_state_dict(finished["callbacks"][callback.state_key])
    else:
        trainer.fit(module, datamodule=data, ckpt_path=str(resumed) if resumed else None, weights_only=True if resumed else None)
    if module.validated_step != trainer.global_step:  # the last epoch was cut short by max_steps or max_time, or nothing was left to train
        trainer.validate(module, datamodule=data, verbose=False)


def _trainer(config: Experiment, scorers: list[Callback], *, folder: Path | None, lines: list[str], total_steps: int | None) -> Trainer:
    """The trainer of a run; ``total_steps`` None where nothing is left to train."""
    speed = Speed()
    decay = config.optimizer.ema
    callbacks: list[Callback] = [] if decay is None or total_steps is None else [EMAWeightAveraging(decay=decay)]
    benchmarks = [BENCHMARKS[name] for name in config.evaluation.benchmarks]
    callbacks += [*scorers, speed, Board({row.name: row.measures for row in benchmarks}, text="  \n".join(lines)), SaveOnSignal()]
    callbacks += [RunProgressBar(speed)] if config.trainer.enable_progress_bar else []
    measured = [row.name for row in benchmarks if "segmentation" in row.measures]
    callbacks += [BestCheckpoint(f"{measured[0]}/miou")] if measured else []  # before the last, which holds what the best was
    callbacks += [EpochCheckpoint()]
    callbacks += [StepCheckpoint(every_steps=config.checkpoint_every_steps)] if config.checkpoint_every_steps else []
    place = folder or LOGS / config.name / config.scale / "version_0"  # ranks but the first write nothing
    logger = TensorBoardLogger(place.parent, name="", version=place.name, default_hp_metric=False)
    # steps end a run: Lightning counts an epoch that max_time cut short as a whole one
    ends = {} if total_steps is None else {"max_epochs": -1, "max_steps": total_steps}
    profiler = build_profiler(config.trainer.profiler, folder / "profile" if folder else None)
    keywords = {**asdict(config.trainer), **ends, "profiler": profiler}
    return Trainer(**keywords, logger=logger, callbacks=callbacks, plugins=[AtomicCheckpointIO()], use_distributed_sampler=False)


def _first_lines(config: Experiment, model: DualEncoder, *, steps_per_epoch: int, total_steps: int) -> list[str]:
    origin = model.image_tower.origin
    return [
        f"{config.name} at scale {config.scale}, config {config_hash(config)}, seed {config.seed}",
        f"image.init: asked {config.image.init}, used {origin.init} ({origin.source})",
        f"text.init: {config.text.init} ({model.text_tower.origin.source})",
        f"{total_steps} steps of {config.data.batch_size} pairs, {steps_per_epoch} an epoch",
    ]


def _announce(config: Experiment, lines: list[str], *, folder: Path | None) -> None:
    if first_rank():
        print("\n".join(lines), file=sys.stderr)
    if folder is not None and not (folder / "config.yaml").exists():
        (folder / "config.yaml").write_text(to_yaml(config))


def _best(trainer: Trainer) -> dict[str, Any] | None:
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint) and callback.best_model_score is not None:
            return {
                "monitor": callback.monitor,
                "value": float(callback.best_model_score),
                "checkpoint": Path(callback.best_model_path).name,
            }
    return None


def _finish(trainer: Trainer, folder: Path | None, *, record: dict[str, Any], metrics: dict[str, float], config: Experiment) -> None:
    if folder is None or not trainer.is_global_zero:
        return
    scorers = scorers_of(trainer.callbacks)  # type: ignore[attr-defined]
    write_extremes(folder / EXTREMES, scorers)
    checkpoint = folder / "checkpoints" / f"{LAST}.ckpt"
    saved = {"checkpoint": str(checkpoint), "checkpoint_sha256": file_hash(checkpoint)} if checkpoint.exists() else {}
    write_record(folder / "result.json", {"metrics": metrics, **record, **saved, "arrays": write_per_image(folder / "per_image", scorers)})
    logger = trainer.logger
    if isinstance(logger, TensorBoardLogger):
        headline = {key: value for key, value in metrics.items() if "/iou/" not in key}
        logger.log_hyperparams(_hyperparameters(config), headline, step=trainer.global_step)
        logger.save()
    print(f"result: {folder / 'result.json'}", file=sys.stderr, flush=True)
    print_metrics(metrics, images=scored_images(record["benchmarks"]))


def _hyperparameters(config: Experiment) -> dict[str, str | int | float | bool]:
    """The same keys in every run, as TensorBoard's parallel coordinates leave out a run that lacks one: null and lists become words."""
    keys = {key: value for key, value in hashed_keys(config).items() if not key.startswith("pretraining.")}
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in keys.items()}
