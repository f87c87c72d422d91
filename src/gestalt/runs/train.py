"""Train a run, score it after each epoch, and write its results file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar

from gestalt.config.check import check_nodes
from gestalt.config.folders import LOGS
from gestalt.config.schema import Experiment, config_hash, hashed_keys, to_plain, to_yaml
from gestalt.config.start import start_of
from gestalt.config.trust import code_of
from gestalt.data_modules.keys import only_scenes
from gestalt.encoders.checkpoints import read_checkpoint, read_resumable
from gestalt.encoders.weights import weights_hash
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.models.names import CHECKPOINT, RESULT, is_finished, run_folder
from gestalt.models.opening import ONLY_TRAINING
from gestalt.module import ContrastiveModule
from gestalt.results.result import Result, headlines_of
from gestalt.results.run_record import describe, print_result, write_results
from gestalt.runs.folders import new_version
from gestalt.runs.locks import hold
from gestalt.runs.process import prepare
from gestalt.runs.resume import DIVERGED, resolve_resume
from gestalt.runs.run import Run, build
from gestalt.runs.score import open_target, score
from gestalt.runs.source import choose_workers, pairs_a_step
from gestalt.support.arguments import wrong_type
from gestalt.support.files import file_hash, write_whole
from gestalt.support.process import Interrupted, first_rank, tell
from gestalt.training.board import Board, BoardLogger, write_hyperparameters
from gestalt.training.checkpoints import (
    BestCheckpoint,
    EpochCheckpoint,
    SaveOnSignal,
    StepCheckpoint,
    restoring,
)
from gestalt.training.classes import build_loggers, naming_callbacks
from gestalt.training.finite import NonFiniteLoss
from gestalt.training.progress import Clock, RunProgressBar, Speed
from gestalt.training.trainer import STATIC_GRAPH, build_profiler, make_trainer

NEXT = """next: gestalt report {folder}   # one HTML page
      gestalt {use}
      gestalt compare {folder} OTHER_RUN   # tensorboard --logdir lightning_logs: the curves"""
"""Commands for a finished run, which are printed at its end."""

USE_SCENES = "eval {folder} scenes --protocols whole_square,sclip-336"
USE_PHOTOGRAPHS = 'segment photo.jpg --labels "background, dog, cat" --model {folder}'
"""The command that uses the model, for models of scenes only and for models of photographs."""


def train(experiment: Experiment, *, verbose: bool = False) -> dict[str, Any]:
    """Train, score after each epoch, write ``result.json`` to the run's folder, and print the
    metrics.

    If the run to resume is already finished, it is scored as a new evaluation.

    Args:
        experiment: configuration of the run, from ``gestalt.experiment``.
        verbose: True to print the IoU of each class too.

    Returns:
        The content of the results file of the run or of the evaluation.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, once the state is saved.
        NonFiniteLoss: the loss is NaN or infinite.
        TooManyBad: a larger share of the samples than ``data.max_bad_share`` cannot be read.
        ValueError: the configuration cannot run.
    """
    if not hasattr(experiment, "trainer"):
        raise wrong_type("experiment", experiment, "what gestalt.experiment(NAME) returns")
    check_nodes(experiment.trainer)
    prepare(experiment)
    resumed = resolve_resume(experiment)
    folder = resumed and run_folder(resumed)
    # The lock comes first: another process may be finishing the run.
    with _held(folder):
        if folder is None or not is_finished(folder):
            return _train(experiment, resumed, verbose)
    tell(f"{folder} is finished; scoring it again as an evaluation")
    words = [word for word in experiment.overrides if not word.startswith(ONLY_TRAINING)]
    scored = score(open_target(str(resumed), overrides=words), overrides=words)
    if scored.result:
        print_result(scored.result, verbose=verbose)
    return scored.record


def _held(folder: Path | None) -> Any:
    """Lock a run's folder against other processes within a block.  The first rank holds the lock
    for all ranks.
    """
    if folder is None or not first_rank():
        return nullcontext()
    busy = f"resume: another process is training in {folder}; wait for it, or start without resume"
    return hold(folder / ".lock", busy)


@contextmanager
def _noting_end(folder: Path | None) -> Iterator[None]:
    """Write a note to a run's folder if its loss is not finite, so that ``resume=auto`` does not
    retry for ever.

    If a signal comes after training, the run's checkpoint is added to the exception.
    """
    note = folder / DIVERGED if folder and first_rank() else None
    if note is not None:
        note.unlink(missing_ok=True)  # removes the note of an earlier attempt
    try:
        yield
    except NonFiniteLoss as error:
        if note is not None:
            note.write_text(f"{error}\n")
        raise
    except Interrupted as stop:
        if folder and (saved := folder / CHECKPOINT).is_file():
            raise Interrupted(stop.signal_number, saved) from stop
        raise


def _train(config: Experiment, resumed: Path | None, verbose: bool) -> dict[str, Any]:
    """Train a new run, or resume one whose folder is locked.  Returns its record."""
    start = time.monotonic()
    parts = build(config, resumed=resumed)
    module = parts.module
    data = parts.data
    folder = run_folder(resumed) if resumed else new_version(config)
    with _held(None if resumed else folder), _noting_end(folder):
        lines = _first_lines(parts)
        number, why = choose_workers(config, len(data.source))
        workers = f"data.workers: {number} a rank, {why}"
        more = (data.summary(), workers, f"run: {folder}")
        tell("\n".join((*lines, *more)))
        if folder is not None and not (folder / "config.yaml").exists():
            write_whole(folder / "config.yaml", to_yaml(config))
        clock = Clock(start)
        with naming_callbacks(config.trainer.callbacks):
            trainer = _trainer(parts, clock, folder, lines, resumed)
            with restoring(resumed):
                first = _fit(trainer, parts, resumed)
        record = {
            **describe(
                config,
                trainer,
                module.model,
                tokens_kept=module.token_count,
                overrides=list(config.overrides),
            ),
            "steps": trainer.global_step,
            "steps_planned": parts.total_steps,
            "resumed_from_step": first,
            "loss": module.last_loss,
            "weights_sha256": weights_hash(module.model),
            "best": next(filter(None, map(_best, trainer.checkpoint_callbacks)), None),
            "data": {**data.about(), "bad_samples": parts.bad_samples.record()},
            **({} if parts.nouns is None else {"nouns": list(parts.nouns.nouns)}),
            "seconds": clock.seconds,
            "seconds_since_start_or_resume": round(time.monotonic() - start, 1),
        }
        if folder is not None and trainer.is_global_zero:
            print_result(_write(trainer, folder, record, config), verbose=verbose)
            tell(next_commands(config, folder))
    return record


def next_commands(config: Experiment, folder: Path) -> str:
    """Return commands to type for a finished run.

    A model that was trained only on scenes is not proposed for photographs. The command that opens
    the model names the run's ``python:`` code.
    """
    use = USE_SCENES if only_scenes(config.data) else USE_PHOTOGRAPHS
    words = [use.format(folder=folder), *code_of(config)]
    return NEXT.format(folder=folder, use=" ".join(words))


def _restore_finished(
    module: ContrastiveModule, checkpoint: Path, total_steps: int
) -> tuple[int, dict[str, Any] | None]:
    """Load the final weights of a run that was stopped after its last step.

    Returns the step of the checkpoint, and its content. The content is None if steps remain.
    """
    saved = read_resumable(checkpoint)
    # A factored moment has a subset of a parameter's dimensions.
    sides = {frozenset({1, *parameter.shape}) for parameter in module.parameters()}
    for moments in saved["optimizer_states"][0]["state"].values():
        for name, moment in moments.items():
            shape = getattr(moment, "shape", ())
            if not any(known.issuperset(shape) for known in sides):
                raise RuntimeError(f"{name} has {tuple(moment.shape)}, the shape of no parameter")
    step = int(saved["global_step"])
    if step < total_steps:
        return step, None
    module.load_state_dict(saved["state_dict"])  # averaged weights if optimizer.ema is set
    module.on_load_checkpoint(saved)
    return step, saved


def _fit(trainer: Trainer, parts: Run, resumed: Path | None) -> int | None:
    """Train the remaining steps, if any, and score the final weights unless the validation of the
    last epoch has scored them.

    Returns the step that the run was resumed from; None for a new run.
    """
    module = parts.module
    first, finished = None, None
    if resumed is not None:
        first, finished = _restore_finished(module, resumed, parts.total_steps)
    if finished:
        # With this state, the trainer logs at the step of the run.
        trainer.fit_loop.load_state_dict(finished["loops"]["fit_loop"])
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback.state_key in finished["callbacks"]:
                callback.load_state_dict(finished["callbacks"][callback.state_key])
    else:
        trainer.fit(module, datamodule=parts.data, ckpt_path=resumed, weights_only=True)
    # This is needed if max_steps or max_time ended within an epoch, or no steps remained.
    if module.validated_step != trainer.global_step:
        trainer.validate(module, datamodule=parts.data, verbose=False)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint):
                callback.compare_last(trainer, Path(str(trainer.log_dir)) / CHECKPOINT)
    return first


def _trainer(
    parts: Run, clock: Clock, folder: Path | None, lines: list[str], resumed: Path | None
) -> Trainer:
    """Build the trainer of a run."""
    config = parts.config
    speed = Speed()
    benchmarks = [BENCHMARKS[name] for name in config.evaluation.benchmarks]
    board = Board("  \n".join(lines), speed=speed)
    keywords = parts.trainer
    # The callbacks of the user come before EpochCheckpoint, which stores their state.
    callbacks = [*keywords.pop("callbacks"), clock, speed, board, SaveOnSignal()]
    own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if config.trainer.enable_progress_bar and not own_bar:  # the Trainer takes only one
        callbacks.append(RunProgressBar(speed))
    segmented = [row.name for row in benchmarks if "segmentation" in row.measures]
    if segmented:
        # BestCheckpoint comes before EpochCheckpoint, which stores its state.
        callbacks.append(BestCheckpoint(f"{segmented[0]}/miou"))
    callbacks.append(EpochCheckpoint())
    intervals = {config.checkpoint_every_steps or 0, config.checkpoint_keep or 0} - {0}
    callbacks += [StepCheckpoint(every_steps=every) for every in sorted(intervals)]
    # Only the first rank writes to this folder.
    log_folder = folder or LOGS / config.name / config.scale / "version_0"
    tensorboard = BoardLogger(
        log_folder.parent, name="", version=log_folder.name, default_hp_metric=False
    )
    further = build_loggers(
        config.logger,
        log_folder,
        keys=to_plain(config),
        saved=read_checkpoint(resumed) if resumed and config.logger else None,
    )
    return make_trainer(
        log_folder,
        rank_timeout=config.rank_timeout,
        keep=config.checkpoint_keep,
        callbacks=[*callbacks, further],
        ddp=STATIC_GRAPH,
        logger=[tensorboard, *further.loggers.values()],
        profiler=build_profiler(config.trainer.profiler, folder),
        **keywords,
    )


def _first_lines(parts: Run) -> list[str]:
    config, model = parts.config, parts.module.model
    image, text = model.image_origin, model.text_origin
    requested = start_of(config.start, "image") or config.image.init
    count = config.trainer.accumulate_grad_batches
    in_parts = f" in {count} batches of {config.data.batch_size}" if count > 1 else ""
    return [
        f"{config.name} at scale {config.scale}, config {config_hash(config)}, seed {config.seed}",
        f"image.init: requested {requested}, resolved to {image.init} ({image.source})",
        f"text.init: {start_of(config.start, 'text') or config.text.init} ({text.source})",
        f"{parts.total_steps} steps of {pairs_a_step(config)} pairs{in_parts}, "
        f"{parts.steps_per_epoch} an epoch",
    ]


def _best(callback: Callback) -> dict[str, Any] | None:
    if not isinstance(callback, BestCheckpoint) or callback.best_model_score is None:
        return None
    return {
        "monitor": callback.monitor,
        "value": float(callback.best_model_score),
        "checkpoint": Path(callback.best_model_path).name,
    }


def _write(trainer: Trainer, folder: Path, record: dict[str, Any], config: Experiment) -> Result:
    """Write the results file, with the hashes of the checkpoints, and TensorBoard's
    hyperparameters. Returns the result.
    """
    checkpoint = folder / CHECKPOINT
    hashes = {path.name: file_hash(path) for path in sorted(checkpoint.parent.glob("*.ckpt"))}
    if checkpoint.exists():
        record |= {"checkpoint": str(checkpoint), "checkpoint_sha256": hashes[checkpoint.name]}
    record["checkpoints"] = hashes
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    result = write_results(
        folder / RESULT, record, callbacks, arrays=folder / "per_image", extremes=folder
    )
    write_hyperparameters(trainer, hashed_keys(config), metrics=headlines_of(record["metrics"]))
    return result
