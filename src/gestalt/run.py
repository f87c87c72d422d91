"""train, evaluate, segment: what the command line calls."""

import json
import logging
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger

from gestalt import build, build_pretraining, build_zoo
from gestalt.callbacks.checkpoints import LAST, AtomicCheckpointIO, BestCheckpoint, EpochCheckpoint, SaveOnSignal, StepCheckpoint
from gestalt.callbacks.clock import Clock
from gestalt.callbacks.profiling import build_profiler
from gestalt.callbacks.speed import Board, RunProgressBar, Speed
from gestalt.config import LOGS, config_hash, hashed_keys, load_saved, to_plain, to_yaml
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.ledger.per_image import file_hash, write_per_image
from gestalt.ledger.predictions import EXTREMES, write_extremes
from gestalt.ledger.record import provenance, weights_hash, write_record
from gestalt.memory import keep_freed_memory
from gestalt.model import DualEncoder
from gestalt.module import ContrastiveModule
from gestalt.pretraining import making
from gestalt.runs import first_rank, hold, new_evaluation, new_version, resolve_checkpoint, resolve_resume, run_folder
from gestalt.schema import Experiment, uses_made

QUIET = (  # what Lightning says that does not concern a user of this program
    (".*does not have many workers.*", "a scale says how many"),
    (".*in eval mode at the start of training.*", "frozen towers and batch-norms are, on purpose"),
    (".*Checkpoint directory .* exists and is not empty.*", "a resumed run goes on in its folder"),
    (".*The number of training batches .* is smaller than the logging interval.*", "short runs are fine"),
    (".*could not find the monitored key in the returned metrics.*", "an epoch that is not validated has none"),
    (".*treespec, LeafSpec.*", "inside torch"),
)


def train(config: Experiment, *, overrides: list[str]) -> dict[str, float]:
    """Train, score after each epoch, and write ``result.json`` in the run's folder.  Returns the final metrics.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is no longer a number.
        TooManyBad: more samples cannot be read than ``data.max_bad_share``.
        ValueError: the configuration cannot run.
    """
    quiet()
    build.check_names(config)
    keep_freed_memory()
    resumed = resolve_resume(config)
    if uses_made(config):
        making.ensure(build_pretraining.product_of(config), config)
    start = time.monotonic()  # what is made once and shared is no part of the run's time
    data, callbacks, steps_per_epoch, total_steps = _data(config)
    model = build.build_model(config)
    module = build.build_module(config, model, total_steps=total_steps)
    folder = run_folder(resumed) if resumed else new_version(config)
    bad_samples = build.build_bad_samples(config)
    lock = hold(folder) if folder and first_rank() else None  # until this function returns
    lines = _first_lines(config, model, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    _announce(config, [*lines, data.summary(), f"run: {folder}"], folder=folder)
    finished = resumed is not None and _restore_finished(module, resumed, total_steps=total_steps)
    clock = Clock(start)
    trainer = _trainer(config, [*callbacks, bad_samples, clock], folder=folder, lines=lines, total_steps=None if finished else total_steps)
    if finished and resumed is not None:
        saved = _saved(resumed)
        trainer.fit_loop.load_state_dict(saved["loops"]["fit_loop"])  # so that it logs at its own step
        bad_samples.load_state_dict(saved["callbacks"][bad_samples.state_key])
    else:
        trainer.fit(module, datamodule=data, ckpt_path=str(resumed) if resumed else None, weights_only=True if resumed else None)
    if module.validated_step != trainer.global_step:  # the last epoch was cut short by max_steps or max_time, or nothing was left to train
        trainer.validate(module, datamodule=data, verbose=False)
    metrics = _metrics(callbacks)
    record = {
        **_describe(config, trainer, model, kept=module.kept, overrides=overrides),
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


def evaluate(target: str, *, overrides: list[str]) -> dict[str, float]:
    """Score a checkpoint on the benchmarks of its run's config, or of ``overrides``; writes ``evaluations/<n>.json`` in the run's folder.

    Args:
        target: a checkpoint, a run's folder, an experiment's name for its newest run, or a model of the zoo.
        overrides: ``key=value`` words on the saved config, such as ``benchmark_root=DIR``.
    """
    quiet()
    return score(opened(target, overrides=overrides), overrides=overrides)[0]


def opened(target: str, *, overrides: list[str]) -> Opened:
    """What ``evaluate`` takes, with its config and model."""
    if build_zoo.is_guest(target):
        guest = build_zoo.open_guest(target, overrides=overrides)
        hashed = {} if guest.file is None else {"checkpoint_sha256": file_hash(guest.file)}
        used = {"asked": target, "used": guest.model.image_tower.origin.init, "source": guest.model.image_tower.origin.source}
        said = {"experiment": "zoo", "checkpoint": target, **hashed, "image_init": {**used, "sha256": hashed.get("checkpoint_sha256")}}
        guest.folder.mkdir(parents=True, exist_ok=True)
        return Opened(guest.config, guest.model, folder=guest.folder, said=said, trained_at=None)
    checkpoint = resolve_checkpoint(target)
    saved = load_saved(run_folder(checkpoint) / "config.yaml")
    config = load_saved(run_folder(checkpoint) / "config.yaml", overrides=overrides)
    model = load_model(checkpoint, replace(config, image=replace(config.image, eval_size=saved.image.eval_size)))
    said = {"checkpoint": str(checkpoint), "checkpoint_sha256": file_hash(checkpoint)}
    trained_at = saved.image.train_size if saved.image.subsampling else saved.image.eval_size
    return Opened(config, model, folder=run_folder(checkpoint), said=said, trained_at=trained_at)


def score(found: Opened, *, overrides: list[str]) -> tuple[dict[str, float], Path | None]:
    """Score a model and write ``evaluations/<n>.json``.  Returns the metrics, and the record's path on the first rank."""
    start = time.monotonic()
    config, model = found.config, found.model
    validation, callbacks = build.build_evaluation(config)
    profiler = build_profiler(config.trainer.profiler, found.folder / "profile" if first_rank() else None)
    keywords = {**asdict(config.trainer), "profiler": profiler}
    trainer = Trainer(**keywords, logger=False, callbacks=callbacks, enable_checkpointing=False, use_distributed_sampler=False)
    trainer.validate(build.build_module(config, model, total_steps=1), datamodule=validation, verbose=False)
    metrics = _metrics(callbacks)
    record = {
        **_describe(config, trainer, model, kept="", overrides=overrides),
        **found.said,
        "weights_sha256": weights_hash(model),
        "metrics": metrics,
        "seconds": round(time.monotonic() - start, 1),
    }
    if not trainer.is_global_zero:
        return metrics, None
    path = new_evaluation(found.folder)
    write_extremes(path.with_suffix("") / EXTREMES, callbacks)
    write_record(path, {**record, "arrays": write_per_image(path.with_suffix(""), callbacks)})
    _print(metrics)
    return metrics, path


def segment(image_path: str, *, labels: list[str], target: str, output: str | None) -> Path:
    """Colour an image by the labels that its locations resemble most, and write it as a PNG.

    Args:
        image_path: a picture.
        labels: phrases, two or more.
        target: a checkpoint, a run's folder, or an experiment's name for its newest run.
        output: PNG to write; beside the picture by default.
    """
    from gestalt.evaluation.pictures import read_image, render_segmentation
    from gestalt.evaluation.top_down import segment_image

    quiet()
    image = read_image(Path(image_path))
    path = Path(output) if output else Path(image_path).with_name(Path(image_path).stem + "_segmented.png")
    if path.exists() and output is None:
        raise ValueError(f"{path}: exists already; name another file with --output, or this one to overwrite it")
    if not path.parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {path.parent}")
    checkpoint = resolve_checkpoint(target)
    config = load_saved(run_folder(checkpoint) / "config.yaml")
    model = load_model(checkpoint, config).eval()
    benchmark = next(iter(config.evaluation.benchmarks), "scenes")
    mask = segment_image(model, image, labels=labels, protocol=build.build_protocol(config, benchmark, has_background=False))
    render_segmentation(image, mask, labels).save(path)
    return path


def load_model(checkpoint: Path, config: Experiment) -> DualEncoder:
    """The dual encoder of a checkpoint of ours.

    Raises:
        ValueError: the weights do not fit the config.
    """
    fresh = replace(config, image=replace(config.image, init="random", inits={}, weights=None))  # the checkpoint holds the weights
    model = build.build_model(fresh)
    state = _saved(checkpoint)["state_dict"]
    weights = {name.removeprefix("model."): value for name, value in state.items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{checkpoint}: does not fit the model of its config.yaml: {error}") from error
    used = config.image.init if uses_made(config) else build.used_init(config)
    model.image_tower.origin = replace(model.image_tower.origin, init=used, source=f"checkpoint {checkpoint}")  # not the fresh ones
    return model


def _data(config: Experiment) -> tuple[Any, list[Callback], int, int]:
    source = build.build_source(config)
    steps_per_epoch, total_steps = build.steps(config, source)
    validation, callbacks = build.build_evaluation(config)
    data = build.build_data(config, source, validation=validation)
    return data, callbacks, steps_per_epoch, total_steps


def _saved(checkpoint: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return saved


def _restore_finished(module: ContrastiveModule, checkpoint: Path, *, total_steps: int) -> bool:
    """Load the weights to report of a run that was stopped after its last step; False where steps are left."""
    saved = _saved(checkpoint)
    if saved["global_step"] < total_steps:
        return False
    module.load_state_dict(saved["state_dict"])  # the averaged weights, where there are any
    module.on_load_checkpoint(saved)
    return True


def _trainer(config: Experiment, scorers: list[Callback], *, folder: Path | None, lines: list[str], total_steps: int | None) -> Trainer:
    """The trainer of a run; ``total_steps`` None where nothing is left to train."""
    speed = Speed()
    decay = config.optimizer.ema
    callbacks: list[Callback] = [] if decay is None or total_steps is None else [EMAWeightAveraging(decay=decay)]
    measures = {name: BENCHMARKS[name].measures for name in config.evaluation.benchmarks}
    callbacks += [*scorers, speed, Board(measures, text="  \n".join(lines)), SaveOnSignal(), EpochCheckpoint()]
    callbacks += [RunProgressBar(speed)] if config.trainer.enable_progress_bar else []
    measured = [name for name in config.evaluation.benchmarks if "segmentation" in BENCHMARKS[name].measures]
    callbacks += [BestCheckpoint(f"{measured[0]}/miou")] if measured else []
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


def _scorers(callbacks: list[Callback]) -> list[Any]:
    return [callback for callback in callbacks if hasattr(callback, "result")]


def _metrics(callbacks: list[Callback]) -> dict[str, float]:
    return {key: value for callback in _scorers(callbacks) for key, value in callback.result()["metrics"].items()}


def _describe(config: Experiment, trainer: Trainer, model: DualEncoder, *, kept: str, overrides: list[str]) -> dict[str, Any]:
    scorers = _scorers(trainer.callbacks)  # type: ignore[attr-defined]
    origin = model.image_tower.origin
    return {
        "experiment": config.name,
        "scale": config.scale,
        "seed": config.seed,
        "overrides": overrides,
        "config": to_plain(config),
        "config_hash": config_hash(config),
        "image_init": {"asked": config.image.init, "used": origin.init, "source": origin.source, "sha256": origin.sha256},
        "text_init": {"asked": config.text.init, "used": model.text_tower.origin.init, "source": model.text_tower.origin.source},
        "tokens_kept": kept,
        "benchmarks": [{key: value for key, value in callback.result().items() if key != "metrics"} for callback in scorers],
        "ranks": trainer.world_size,
        "provenance": provenance(trainer.strategy.root_device),
    }


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
    scorers = _scorers(trainer.callbacks)  # type: ignore[attr-defined]
    write_extremes(folder / EXTREMES, scorers)
    checkpoint = folder / "checkpoints" / f"{LAST}.ckpt"
    saved = {"checkpoint": str(checkpoint), "checkpoint_sha256": file_hash(checkpoint)} if checkpoint.exists() else {}
    write_record(folder / "result.json", {"metrics": metrics, **record, **saved, "arrays": write_per_image(folder / "per_image", scorers)})
    logger = trainer.logger
    if isinstance(logger, TensorBoardLogger):
        headline = {key: value for key, value in metrics.items() if "/iou/" not in key}
        logger.log_hyperparams(_hyperparameters(config), headline, step=trainer.global_step)
        logger.save()
    _print(metrics)
    print(f"result: {folder / 'result.json'}")


def _hyperparameters(config: Experiment) -> dict[str, str | int | float | bool]:
    """The same keys in every run, as TensorBoard's parallel coordinates leave out a run that lacks one: null and lists become words."""
    keys = {key: value for key, value in hashed_keys(config).items() if not key.startswith("pretraining.")}
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in keys.items()}


def _print(metrics: dict[str, float]) -> None:
    for key, value in metrics.items():
        print(f"{key} {value:.4f}")


def quiet() -> None:
    """Keep what does not concern a user of this program from the screen."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar for each weight file
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # tips, device lists, a line a rank
    for pattern, _ in QUIET:
        warnings.filterwarnings("ignore", pattern)
