"""Label maps in a folder -> the data and the callback that score them, without a model."""

from pathlib import Path
from typing import NamedTuple

from gestalt.config.schema import Experiment
from gestalt.data_modules.labels.predicted_maps import (
    Values,
    WithPredictions,
    colour_map,
    find_maps,
    group_map,
    value_map,
)
from gestalt.data_modules.validation import ImageSetDataModule
from gestalt.measures.callback import Scorer
from gestalt.measures.context import Context
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.pictures import VOID, class_colours
from gestalt.measures.evaluation.protocols import MapSize, PredictionsProtocol
from gestalt.measures.grouping.callback import GroupMaps
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.runs.evaluation import build_image_sets
from gestalt.runs.workers import reading_processes


class Maps(NamedTuple):
    """Label maps in a folder.

    Attributes:
        folder: holds the files, in sub-folders or not.
        measure: ``segmentation``, or ``grouping`` for maps whose every value is a group.
        values: what ``value_map`` takes, or ``voc_colours`` for maps painted in the colours of
            PASCAL VOC.
        suffix: end of the files' stems behind the image's name.
        map_size: ``nearest`` to scale a map of another size than its truth.
    """

    folder: Path
    measure: str
    values: str | dict[int, str | None]
    suffix: str
    map_size: MapSize


def build_predictions(
    config: Experiment, maps: Maps
) -> tuple[ImageSetDataModule, Scorer, list[Path]]:
    """Build the data and the callback of the configuration's only benchmark.  Returns them and the
    files, in order of image.

    Raises:
        ValueError: the image set does not list its names or has no truth of the measure, an image
            has no map, or the values do not fit.
    """
    (name,) = config.evaluation.benchmarks
    images = build_image_sets(config)[BENCHMARKS[name].image_set]
    names = getattr(images, "names", None)
    if names is None:
        raise ValueError(
            f"image set {images.name} has no attribute names, by which label maps are found; add it"
        )
    files = find_maps(maps.folder, names, suffix=maps.suffix)
    values, scorer = (_classes if maps.measure == "segmentation" else _groups)(
        maps,
        Context(config.evaluation, BENCHMARKS[name], images, size=config.image.eval_size),
    )
    predicted = WithPredictions(images, files, values=values, resize=maps.map_size == "nearest")
    data = ImageSetDataModule(
        [predicted], batch_size=config.evaluation.batch_size, workers=reading_processes(config)
    )
    return data, scorer, files


def _classes(maps: Maps, context: Context) -> tuple[Values, Scorer]:
    labels, benchmark = context.labels, context.benchmark
    if maps.values == "voc_colours":
        # VOC's background, which this set does not score
        black = [] if labels.background is not None else [(0, 0, 0)]
        values: Values = colour_map(
            class_colours(len(labels.names), background=labels.background), unnamed=[VOID, *black]
        )
    else:
        values = value_map(
            maps.values,
            names=labels.names,
            truth=getattr(context.image_set, "maps", {}).get(benchmark.label_set),
        )
    return values, ClassMaps(context, protocol=PredictionsProtocol(map_size=maps.map_size))


def _groups(maps: Maps, context: Context) -> tuple[Values, Scorer]:
    name, why = context.benchmark.name, context.image_set.no_instances
    if why is not None:
        raise ValueError(
            f"--measure grouping: benchmark {name} has no objects, {why}; name another"
        )
    return group_map, GroupMaps(
        context, protocol=PredictionsProtocol(map_size=maps.map_size, unnamed="group")
    )
