"""Score a model: resolve a target to a model with its configuration, evaluate it, and write the
results file.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

from gestalt.config.check import check_nodes
from gestalt.config.schema import Experiment
from gestalt.config.trust import Places
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.weights import weights_hash
from gestalt.measures.evaluation.pictures import STATEMENT
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.models import opening as targets
from gestalt.models.opening import Target
from gestalt.results.record import write_record
from gestalt.results.result import Result
from gestalt.results.run_record import describe, write_results
from gestalt.results.text import span
from gestalt.runs.evaluation import build_evaluation
from gestalt.runs.folders import check_writable, new_evaluation
from gestalt.support.files import Fields, check_free, filled_folder
from gestalt.support.label_values import ignored_value
from gestalt.support.process import first_rank, keep_freed_memory, tell
from gestalt.support.typed import ConfigError
from gestalt.training.machine import check_machine
from gestalt.training.progress import peak_memory
from gestalt.training.trainer import build_profiler, keywords_of, make_trainer

ENTRY_KEYS = (
    "image_set",
    "images",
    "images_in_set",
    "images_official",
    "label_set",
    "names",
    "vocabulary",
    "templates",
    "protocol",
)
"""Keys of a benchmark's entry in the results file that ``predictions.json`` repeats."""

MODEL_KEYS = (
    "experiment",
    "scale",
    "seed",
    "checkpoint",
    "checkpoint_sha256",
    "run",
    "steps",
    "steps_planned",
    "weights_sha256",
    "interpolation",
    "model",
    "overrides",
    "config_hash",
    "provenance",
)
"""Keys of the results file that ``predictions.json`` repeats."""


@contextmanager
def writing_maps(callbacks: Iterable[Callback], to: str | None) -> Iterator[list[ClassMaps]]:
    """Let every callback that scores class maps write them to ``<to>/<benchmark>``.

    The folders appear when the block ends without an error. If ``to`` is None, no maps are written.
    Yields these callbacks.

    Raises:
        ValueError: such a folder is not empty.
        ConfigError: a folder cannot be written, or no callback scores class maps.
    """
    if to is None:
        yield []
        return
    folder = Path(to)
    scorers = [callback for callback in callbacks if isinstance(callback, ClassMaps)]
    if not scorers:
        raise ConfigError(
            f"--predictions {folder}: none of the benchmarks measures segmentation; leave it out"
        )
    if not first_rank():  # the first rank shares its folder with this rank
        yield scorers
        return
    for scorer in scorers:
        place = folder / scorer.name
        check_free(place, option=f"--predictions {folder}")
        check_writable(place, option="--predictions DIR")
    with filled_folder(folder) as partial:
        for scorer in scorers:
            scorer.folder = partial / scorer.name
        yield scorers


def state_origin(scorers: Iterable[ClassMaps], record: Fields) -> None:
    """Write ``predictions.json`` beside the maps: classes, protocol, model and weights, from the
    results file of the evaluation.
    """
    for scorer in scorers:
        assert scorer.folder is not None
        entry = scorer.result()
        statement = {
            "benchmark": scorer.name,
            "split": record["config"].get("evaluation", {}).get("split"),
            "unnamed": ignored_value(len(scorer.labels.names)),
            "files": "<image name>.png, class indices",
            **{key: entry[key] for key in ENTRY_KEYS if key in entry},
            **{key: record[key] for key in MODEL_KEYS if key in record},
        }
        write_record(scorer.folder / STATEMENT, statement)


class ScoredModule(LightningModule):
    """Holds the model that callbacks score in Lightning's validation: ours or an external model. It
    is None when label maps are scored.
    """

    def __init__(self, model: DenseModel | None) -> None:
        super().__init__()
        self.model = model

    def validation_step(self, *_: Any) -> None:
        """Do nothing: callbacks score each image set."""


TIMED_BATCHES = 3
"""Number of batches of each image set, after the first, that are timed to estimate the time of the
set.
"""


class Forecast(Callback):
    """Prints how long an image set takes, estimated from its first batches, if that is a minute or
    more.
    """

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the time.  The first batch is a warm-up and is not counted."""
        if batch_idx == 0:
            self._begin = time.monotonic()
        elif batch_idx == TIMED_BATCHES:
            each = (time.monotonic() - self._begin) / TIMED_BATCHES
            left = each * (trainer.num_val_batches[dataloader_idx] - 1 - TIMED_BATCHES)
            if left >= 60:
                tell(f"{batch['set']}: about {span(left)} to go, by its first images")


def run_scorers(
    model: DenseModel | None, data: Any, callbacks: list[Callback], folder: Path, **keywords: Any
) -> Trainer:
    """Score image sets with callbacks.  ``keywords`` are passed to ``make_trainer``.  Returns the
    trainer.
    """
    trainer = make_trainer(
        folder,
        callbacks=[*callbacks, Forecast()],
        logger=False,
        enable_checkpointing=False,
        **keywords,
    )
    trainer.validate(ScoredModule(model), datamodule=data, verbose=False)
    return trainer


def write_evaluation(folder: Path, record: Fields, callbacks: list[Callback]) -> Result:
    """Write ``evaluations/<n>.json`` and its arrays to a folder.  Returns the result."""
    with new_evaluation(folder) as path:
        arrays = path.with_suffix("")
        result = write_results(path, record, callbacks, arrays=arrays, extremes=arrays)
    return result


class Scored(NamedTuple):
    """The content of a results file, and the result that was read from ``evaluations/<n>.json``.

    The result is None on ranks other than the first, which writes the file.
    """

    record: Fields
    result: Result | None


def open_target(target: str, *, overrides: list[str], output: str | None = None) -> Target:
    """Resolve a target to its model and configuration, for scoring on this machine.

    Args:
        target: a run, a checkpoint, an exported folder, or an external model.
        overrides: ``key=value`` words that change its configuration.
        output: folder for the results files; None for the run's folder.

    Raises:
        ValueError: the target does not exist, its weights do not fit, this machine cannot do what
            the configuration asks for, or the folder cannot be written to.
    """
    opened = targets.open_target(target, overrides=overrides, check=_check_here)
    if output is not None:
        opened = opened._replace(folder=Path(output))
    tell(f"model: {opened.origin}")
    if first_rank():
        check_writable(opened.folder)  # before scoring, which takes time
    return opened


def _check_here(config: Experiment, has_text: bool, places: Places) -> None:
    """Check that this machine can score with this configuration, and that the images exist and may
    be opened.
    """
    check_nodes(config.trainer)
    check_machine(config.trainer)
    build_evaluation(config, has_text=has_text, places=places)


def score(
    target: Target, *, overrides: list[str], only: str | None = None, predictions: str | None = None
) -> Scored:
    """Score a model on the benchmarks of its configuration, and write ``evaluations/<n>.json`` to
    its folder.

    Args:
        target: the model with its configuration.
        overrides: the words that the model was opened with, for the results file.
        only: the measure to score; None for all.
        predictions: folder for the predicted class maps; None to write none.

    Raises:
        ConfigError: the folder of predictions is not empty, or no benchmark measures segmentation.
    """
    start = time.monotonic()
    keep_freed_memory()
    config = target.config
    model = target.model
    split = "" if config.evaluation.split is None else f", split {config.evaluation.split}"
    tell(f"scoring {target.identity['checkpoint']}{split}")
    validation, callbacks = build_evaluation(
        config, has_text=model.has_text, only=only, kept=target.kept, places=target.places
    )
    for line in validation.parts_scored(limit=config.evaluation.limit):
        tell(line)
    for scorer in callbacks:
        if (
            isinstance(scorer, Segmentation)
            and scorer.calibration
            and scorer.calibration["weights_sha256"] != weights_hash(model)
        ):
            tell(
                f"{scorer.name}: its threshold was calibrated with other weights "
                f"({scorer.calibration['file']})"
            )
    with writing_maps(callbacks, predictions) as written:
        trainer = run_scorers(
            model,
            validation,
            callbacks,
            target.folder,
            rank_timeout=config.rank_timeout,
            profiler=build_profiler(
                config.trainer.profiler, target.folder if first_rank() else None
            ),
            **keywords_of(config.trainer),
        )
        record = {
            **describe(config, trainer, model, tokens_kept="", overrides=overrides),
            **target.identity,
            "weights_sha256": weights_hash(model),
            "seconds": round(time.monotonic() - start, 1),
            "memory_bytes": peak_memory(trainer.strategy.root_device),
        }
        result = None
        if trainer.is_global_zero:
            result = write_evaluation(target.folder, record, callbacks)
            state_origin(written, record)
    return Scored(record, result)
