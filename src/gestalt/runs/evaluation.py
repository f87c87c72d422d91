"""Build validation data, and the callbacks that score a model on it or score a folder of label
maps.
"""

from functools import cache, partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from torch import Tensor

from gestalt.config.schema import Experiment
from gestalt.config.trust import TRUSTED, Places
from gestalt.data_modules.image_sets import ImageSet, open_image_set
from gestalt.data_modules.labels.defined import open_defined
from gestalt.data_modules.labels.predicted_maps import (
    Values,
    WithPredictions,
    colour_map,
    find_maps,
    group_map,
    value_map,
)
from gestalt.data_modules.validation import ImageSetDataModule
from gestalt.measures.callback import Scorer, SkippedMeasure
from gestalt.measures.context import Context, FolderImages, SourceImages
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.pictures import VOID, class_colours
from gestalt.measures.evaluation.protocols import MapSize, PredictionsProtocol
from gestalt.measures.grouping.callback import GroupMaps
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.models.zoo.kinds import open_vision
from gestalt.runs.source import build_source, loading_processes, reading_processes
from gestalt.support.names import is_path
from gestalt.support.typed import ConfigError
from gestalt.training.trainer import OneThreadValidation

NO_TEXT = "the model is vision-only and has no names for classes"


def build_image_sets(config: Experiment, places: Places = TRUSTED) -> dict[str, ImageSet]:
    """Open the image set of each benchmark, with the label sets that the benchmarks score.  Returns
    name -> image set.

    Raises:
        ValueError: an image set cannot be opened, or is one of ``places``, which must not be
            opened.
    """
    places.refuse("evaluation.benchmarks")
    by_set: dict[str, list[Benchmark]] = {}
    for benchmark in (BENCHMARKS[name] for name in config.evaluation.benchmarks):
        by_set.setdefault(benchmark.image_set, []).append(benchmark)
    return {name: _open(config, rows, places) for name, rows in by_set.items()}


def _open(config: Experiment, benchmarks: list[Benchmark], places: Places) -> ImageSet:
    """Open the image set that several benchmarks share."""
    row = benchmarks[0]
    split, limit = config.evaluation.split, config.evaluation.limit
    if is_path(row.image_set):
        return open_defined(row.image_set, label_set=row.label_set, split=split, limit=limit)
    root = None
    if row.source == config.data.source:
        places.refuse("data.root")
        root = config.data.root
    elif row.layout:
        places.refuse("benchmark_root")
        root = config.benchmark_root
    options: dict[str, Any] = {"recipe": config.data.recipe} if row.source == "scenes" else {}
    return open_image_set(
        row.image_set,
        root=root,
        split=split,
        limit=limit,
        subset=config.benchmark_subset,
        label_sets=[benchmark.label_set for benchmark in benchmarks if benchmark.label_set],
        **options,
    )


def open_unlabelled(config: Experiment, places: Places = TRUSTED) -> SourceImages:
    """Open unlabelled images: the images of ``evaluation.unlabelled``, or the training images.

    Raises:
        ConfigError: the folder has no pictures, the configuration has no training data, or the
            images are one of ``places``, which must not be opened.
    """
    folder = config.evaluation.unlabelled
    places.refuse("data." if folder is None else "evaluation.unlabelled")
    if folder is None and config.data.source != "scenes" and config.data.root is None:
        raise ConfigError(
            "evaluation.debias: there are no training data; name a folder of pictures by "
            "evaluation.unlabelled=DIR"
        )
    try:
        if folder is not None:
            return FolderImages(Path(folder))
        return SourceImages(build_source(config), name=config.data.source)
    except ConfigError:
        raise
    except ValueError as error:
        key = (
            "data.root, whose pictures evaluation.debias reads"
            if folder is None
            else "evaluation.unlabelled"
        )
        raise ConfigError(f"{key}: {error}") from error


def build_evaluation(
    config: Experiment,
    *,
    has_text: bool = True,
    only: str | None = None,
    kept: dict[str, Tensor] | None = None,
    places: Places = TRUSTED,
) -> tuple[ImageSetDataModule, list[Callback]]:
    """Build validation data, and the callbacks that score a model on every image exactly once.

    ``only`` names one measure; by default there are callbacks for all measures. ``kept`` is passed
    to ``Context``. ``places`` must not be opened.

    For a model without text, the measures that need class names are left out, and the results file
    says so.

    Raises:
        ConfigError: the model has no text tower, and every measure needs one.
    """
    image_sets = build_image_sets(config, places)
    callbacks: list[Callback] = []
    opener = cache(partial(open_unlabelled, config, places))
    for benchmark in (BENCHMARKS[name] for name in config.evaluation.benchmarks):
        context = Context(
            config.evaluation,
            benchmark,
            image_sets[benchmark.image_set],
            size=config.image.eval_size,
            open_unlabelled=opener,
            open_vision=partial(open_vision, places=places),
            kept=kept,
        )
        callbacks += [
            MEASURES[measure].build(context)
            if has_text or not MEASURES[measure].names
            else SkippedMeasure(benchmark.name, measure=measure, why=NO_TEXT)
            for measure in benchmark.measures
            if only in (None, measure)
        ]
    left_out = [callback for callback in callbacks if isinstance(callback, SkippedMeasure)]
    if not has_text and left_out and len(left_out) == len(callbacks):
        reasons = "; ".join(f"{row.name}: no {row.measure}, {row.why}" for row in left_out)
        raise ConfigError(
            f"evaluation.benchmarks=[{', '.join(config.evaluation.benchmarks)}]: nothing to score "
            f"({reasons}); choose one that measures grouping or matching"
        )
    one_thread = any(callback.one_thread for callback in callbacks if isinstance(callback, Scorer))
    if config.image.family != "vit" or config.image.stem == "conv" or one_thread:
        callbacks.insert(0, OneThreadValidation())
    data = ImageSetDataModule(
        list(image_sets.values()),
        batch_size=config.evaluation.batch_size,
        workers=min(loading_processes(config), 2),
    )
    return data, callbacks


def build_predictions(
    config: Experiment,
    folder: Path,
    *,
    measure: str,
    values: str | dict[int, str | None],
    suffix: str,
    map_size: MapSize,
) -> tuple[ImageSetDataModule, Scorer, list[Path]]:
    """Build the data and the callback that score label maps on the configuration's only benchmark.
    Returns both, and the files in the order of the images.

    Args:
        config: configuration of the score.
        folder: folder that contains the files, also in sub-folders.
        measure: ``segmentation``, or ``grouping`` for maps in which each value is a group.
        values: an argument of ``value_map``, or ``voc_colours`` for maps in the colours of PASCAL
            VOC.
        suffix: text between the image's name and the file's ending.
        map_size: ``nearest`` to resize maps whose size differs from the ground truth.

    Raises:
        ValueError: the image set does not list its image names or has no ground truth for the
            measure; an image has no map; or the values do not fit.
    """
    (name,) = config.evaluation.benchmarks
    images = build_image_sets(config)[BENCHMARKS[name].image_set]
    names = getattr(images, "names", None)
    if names is None:
        raise ValueError(
            f"image set {images.name} has no attribute names, by which label maps are found; add it"
        )
    files = find_maps(folder, names, suffix=suffix)
    context = Context(
        config.evaluation,
        BENCHMARKS[name],
        images,
        size=config.image.eval_size,
        given=PredictionsProtocol(
            map_size=map_size, unnamed="wrong" if measure == "segmentation" else "group"
        ),
    )
    if measure == "segmentation":
        read = _class_values(values, context)
        scorer: Scorer = ClassMaps(context)
    elif (why := images.no_instances) is not None:
        raise ValueError(
            f"--measure grouping: benchmark {name} has no objects, {why}; name another"
        )
    else:
        read = group_map
        scorer = GroupMaps(context)
    predicted = WithPredictions(images, files, values=read, resize=map_size == "nearest")
    data = ImageSetDataModule(
        [predicted], batch_size=config.evaluation.batch_size, workers=reading_processes(config.data)
    )
    return data, scorer, files


def _class_values(values: str | dict[int, str | None], context: Context) -> Values:
    """Return the mapping from values in label maps to classes."""
    labels = context.labels
    if values == "voc_colours":
        # VOC's background, which this set does not score
        black = [] if labels.background is not None else [(0, 0, 0)]
        colours = class_colours(len(labels.names), background=labels.background)
        return colour_map(colours, unnamed=[VOID, *black])
    truth = getattr(context.image_set, "maps", {}).get(context.benchmark.label_set)
    return value_map(values, names=labels.names, truth=truth)
