"""Label maps in a folder -> the data and the callback that score them, without a model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.labels.predicted_maps import ColourMap, Values, WithPredictions, find_maps, value_map
from data_modules.validation import ImageSetDataModule
from gestalt.building.evaluation import build_image_sets
from gestalt.config.schema import Experiment
from gestalt.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.evaluation.pictures import VOID, class_colours
from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import PredictionsProtocol
from gestalt.measures.context import Context
from gestalt.measures.segmentation.predicted import PredictedMaps


@dataclass(frozen=True)
class Maps:
    """Label maps in a folder.

    Attributes:
        folder: with the files, in sub-folders or not.
        values: as ``value_map``, or ``voc_colours`` for maps painted in the colours of PASCAL VOC.
        suffix: end of the files' stems behind the image's name.
        resize: True to scale a map of another size than its truth.
    """

    folder: Path
    values: str | Mapping[int, str | None]
    suffix: str = ""
    resize: bool = False


def build_predictions(config: Experiment, maps: Maps) -> tuple[ImageSetDataModule, PredictedMaps, list[Path]]:
    """Build the data and the callback of the configuration's only benchmark.  Returns them and the files, in order of image.

    Raises:
        ValueError: the image set does not list its names, an image has no map, or the values do not fit the classes.
    """
    (name,) = config.evaluation.benchmarks
    benchmark = BENCHMARKS[name]
    images = build_image_sets(config)[benchmark.image_set]
    names = getattr(images, "names", None)
    if names is None:
        raise ValueError(f"image set {images.name} has no attribute names, by which label maps are found; add it")
    context = Context(config, benchmark, images)
    files = find_maps(maps.folder, names, suffix=maps.suffix)
    values = _values(maps, benchmark, labels=context.labels, images=images)
    protocol = PredictionsProtocol(map_size="nearest" if maps.resize else "native")
    scorer = PredictedMaps(name, labels=context.labels, protocol=protocol, **context.options)
    predicted = WithPredictions(images, files, values=values, resize=maps.resize)
    workers = min(config.data.workers, os.cpu_count() or 1)
    return ImageSetDataModule([predicted], batch_size=config.evaluation.batch_size, workers=workers), scorer, files


def _values(maps: Maps, benchmark: Benchmark, *, labels: Labels, images: Any) -> Values:
    if maps.values != "voc_colours":
        truth = getattr(images, "maps", {}).get(benchmark.label_set)
        return value_map(maps.values, names=labels.names, truth=truth)
    black = [] if labels.background is not None else [(0, 0, 0)]  # VOC's background, which this set does not score
    return ColourMap(class_colours(len(labels.names), background=labels.background), unnamed=[VOID, *black])
