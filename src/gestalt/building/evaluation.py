"""Experiment -> what scores label maps, groups, class labels, misleading backgrounds, clusters and captions: parts of ``build``."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback

from data_modules.image_sets import ImageSet, LabelSet, open_image_set
from data_modules.labels.all_label_sets import all_label_sets
from data_modules.labels.classified_photographs import ClassifiedPhotographs
from data_modules.validation import ImageSetDataModule
from gestalt.callbacks.exactness import OneThreadValidation
from gestalt.config.calibration_file import calibration_for, threshold_for
from gestalt.config.schema import ConfigError, Experiment
from gestalt.evaluation import protocols
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.evaluation.protocols import BottomUpProtocol, ImageProtocol, TopDownProtocol
from gestalt.evaluation.vocabularies import named
from gestalt.measures.callback import Scorer
from gestalt.measures.classification.callback import Classification
from gestalt.measures.grouping.callback import Grouping, LeftOut
from gestalt.measures.matching.callback import Matching
from gestalt.measures.retrieval.callback import Retrieval
from gestalt.measures.robustness.callback import Robustness
from gestalt.measures.segmentation.callback import Segmentation


def build_protocol(config: Experiment, name: str, *, label_set: str | None = None, has_background: bool = True) -> TopDownProtocol:
    """The protocol that a benchmark is scored by, as it is for a label set, with what the config changes."""
    evaluation = config.evaluation
    return protocols.build_protocol(
        evaluation.protocol or BENCHMARKS[name].protocol,
        label_set=label_set,
        has_background=has_background,
        tower_size=config.image.eval_size,
        background=evaluation.background,
        threshold=threshold_for(name, file=evaluation.calibration, threshold=evaluation.threshold),
        defects=evaluation.defects,
        refinement=evaluation.refinement,
    )


def build_segmentation(config: Experiment, name: str, *, image_set: ImageSet, cache: PatchCache) -> Segmentation:
    """What scores the label maps of a benchmark, its classes named as the protocol has it."""
    label_set = BENCHMARKS[name].label_set
    assert label_set is not None
    labels = image_set.label_sets[label_set]
    protocol = build_protocol(config, name, label_set=label_set, has_background=labels.background is not None)
    words = named(labels, label_set=label_set, protocol=protocol)
    return Segmentation(
        name,
        labels=words,
        protocol=protocol,
        length=len(image_set),
        pictures=config.evaluation.pictures,
        image_set=image_set.name,
        label_set=label_set,
        cache=cache,
        calibration=calibration_for(name, file=config.evaluation.calibration, protocol=protocol, label_set=words.digest()),
    )


def build_grouping_protocol(config: Experiment, name: str) -> BottomUpProtocol:
    """The protocol that a benchmark's groups are scored by, with the configured size."""
    wanted = config.evaluation.grouping_protocol or BENCHMARKS[name].grouping_protocol
    return protocols.build_grouping_protocol(wanted, input_size=config.image.eval_size)


def build_grouping(config: Experiment, name: str, *, image_set: ImageSet) -> Callback:
    """What scores the groups of a benchmark, or says that its files hold no objects.

    Raises:
        ConfigError: they hold none, and the config names a grouping protocol.
    """
    wanted, why = config.evaluation.grouping_protocol, image_set.no_instances
    if why is None:
        protocol = build_grouping_protocol(config, name)
        pictures = config.evaluation.pictures
        return Grouping(name, protocol=protocol, length=len(image_set), pictures=pictures, image_set=image_set.name)
    if wanted is not None:
        raise ConfigError(f"evaluation.grouping_protocol={wanted}: benchmark {name} has no objects, {why}; choose null to leave it out")
    return LeftOut(name, measure="grouping", why=why)


def build_classification(config: Experiment, name: str, *, image_set: ImageSet) -> Classification:
    """What names the images of a benchmark, at the configured size."""
    wanted = config.evaluation.classification_protocol or BENCHMARKS[name].classification_protocol
    protocol = protocols.build_classification_protocol(wanted, input_size=config.image.eval_size)
    return Classification(name, labels=_labels(name, image_set), protocol=protocol, length=len(image_set), image_set=image_set.name)


def build_robustness(config: Experiment, name: str, *, image_set: ImageSet) -> Robustness:
    """What names the images of a benchmark whose backgrounds mislead, at the configured size."""
    wanted = config.evaluation.robustness_protocol or BENCHMARKS[name].robustness_protocol
    protocol = protocols.build_robustness_protocol(wanted, input_size=config.image.eval_size)
    return Robustness(
        name,
        labels=_labels(name, image_set),
        protocol=protocol,
        length=len(image_set),
        pictures=config.evaluation.pictures,
        image_set=image_set.name,
        train_groups=image_set.train_groups if isinstance(image_set, ClassifiedPhotographs) else None,
    )


def build_matching(config: Experiment, name: str, *, image_set: ImageSet) -> Matching:
    """What matches clusters of a benchmark's images to its classes, at the configured size."""
    wanted = config.evaluation.matching_protocol or BENCHMARKS[name].matching_protocol
    protocol = protocols.build_matching_protocol(wanted, input_size=config.image.eval_size)
    return Matching(
        name,
        labels=_labels(name, image_set),
        protocol=protocol,
        images=image_set,
        pictures=config.evaluation.pictures,
        image_set=image_set.name,
        label_set=BENCHMARKS[name].label_set,
    )


def build_retrieval(config: Experiment, name: str, *, image_set: ImageSet) -> Retrieval:
    """What ranks the captions and the images of a benchmark for each other, at the configured size."""
    square = ImageProtocol(name="retrieval_square", input_size=config.image.eval_size, resize="square")
    return Retrieval(name, protocol=square, image_set=image_set.name)


def own_phrases() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Label set -> the phrases of its classes as the image sets themselves have them."""
    return {name: labels.prompts for name, labels in all_label_sets().items()}


def _labels(name: str, image_set: ImageSet) -> LabelSet:
    label_set = BENCHMARKS[name].label_set
    assert label_set is not None, f"benchmark {name} names no label set"
    return image_set.label_sets[label_set]


MEASURES: dict[str, Callable[..., Callback]] = {
    "grouping": build_grouping,
    "classification": build_classification,
    "robustness": build_robustness,
    "matching": build_matching,
    "retrieval": build_retrieval,
}
"""What a benchmark's ``measures`` name, to what builds it."""


def build_image_sets(config: Experiment) -> dict[str, ImageSet]:
    """The image sets of all benchmarks by name, each opened once with the label sets that are asked for."""
    wanted: dict[str, list[str]] = {}
    for benchmark in (BENCHMARKS[name] for name in config.evaluation.benchmarks):
        wanted.setdefault(benchmark.image_set, []).extend([benchmark.label_set] if benchmark.label_set else [])
    return {name: _build_image_set(config, name, label_sets=label_sets) for name, label_sets in wanted.items()}


def _build_image_set(config: Experiment, name: str, *, label_sets: list[str]) -> ImageSet:
    benchmark = next(row for row in BENCHMARKS.values() if row.image_set == name)
    shared = benchmark.source == config.data.source  # its files are those that are trained on
    root = config.data.root if shared else config.benchmark_root if benchmark.needs_root else None
    options: dict[str, Any] = {"recipe": config.data.recipe} if benchmark.source == "scenes" else {}
    split, limit, subset = config.evaluation.split, config.evaluation.limit, config.benchmark_subset
    return open_image_set(name, root=root, split=split, limit=limit, subset=subset, label_sets=label_sets, **options)


def build_evaluation(config: Experiment) -> tuple[ImageSetDataModule, list[Callback]]:
    """Validation data, and the callbacks that score it exactly."""
    image_sets = build_image_sets(config)
    callbacks: list[Callback] = []
    caches = {key: PatchCache() for key in image_sets}
    for name in config.evaluation.benchmarks:
        image_set = image_sets[BENCHMARKS[name].image_set]
        if "segmentation" in BENCHMARKS[name].measures:
            callbacks.append(build_segmentation(config, name, image_set=image_set, cache=caches[BENCHMARKS[name].image_set]))
        wanted = [build for measure, build in MEASURES.items() if measure in BENCHMARKS[name].measures]
        callbacks += [build(config, name, image_set=image_set) for build in wanted]
    official = {one.name: one.official_length for one in image_sets.values()}
    for scorer in (one for one in callbacks if isinstance(one, Scorer)):
        scorer.official = official[scorer.image_set]
    windows = any(isinstance(one, Segmentation) and one.protocol.window is not None for one in callbacks)
    if config.image.family == "cnn" or config.image.stem == "conv" or windows:
        callbacks.insert(0, OneThreadValidation())
    data = ImageSetDataModule(list(image_sets.values()), batch_size=config.evaluation.batch_size, workers=min(config.data.workers, 2))
    return data, callbacks
