"""Checks of ``evaluation``: benchmarks, splits, protocols and thresholds that fit each other."""

from typing import Any

from gestalt.config.calibration_file import calibration_for, read_calibration
from gestalt.config.schema import ConfigError, Experiment, refuse
from gestalt.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.evaluation.measures import MEASURES
from gestalt.support.names import nearest

CHANGES = (
    "background",
    "threshold",
    "defects",
    "refinement",
    "reading",
    "positions",
    "proxy",
    "debias",
    "image_weight",
)
"""Keys of ``evaluation`` that change fields of a segmentation protocol."""


def check_has_masks(
    benchmark: str, *, option: str = "--calibrate", measure: str = "segmentation"
) -> None:
    """Refuse a benchmark that lacks a measure; ``option`` is the flag that named the benchmark.

    Raises:
        ConfigError: lists the benchmarks that have it.
    """
    if benchmark not in BENCHMARKS or measure not in BENCHMARKS[benchmark].measures:
        known = [name for name, row in BENCHMARKS.items() if measure in row.measures]
        raise ConfigError(
            f"{option} {benchmark}: choose one that measures {measure}: {', '.join(known)}"
        )


def segmentation_changes(config: Experiment, benchmark: Benchmark) -> dict[str, Any]:
    """Return the fields that a configuration changes of a benchmark's segmentation protocol; None
    keeps a field.

    Raises:
        ConfigError: the calibration file cannot be read.
    """
    changes = {key: getattr(config.evaluation, key) for key in CHANGES}
    calibration = calibration_for(benchmark.name, file=config.evaluation.calibration)
    if calibration is not None:
        changes["threshold"] = calibration.threshold
    return changes


def check_evaluation(config: Experiment) -> None:
    """Refuse an evaluation that cannot be scored.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    _check_benchmarks(config)
    _check_files(config)
    _check_protocol_names(config)
    _check_calibration(config)
    _check_threshold(config)
    for row in _benchmarks(config):
        if "segmentation" in row.measures:
            _check_segmentation(config, row)


def _check_benchmarks(config: Experiment) -> None:
    names = config.evaluation.benchmarks
    for name in names:
        if name not in BENCHMARKS:
            refuse("evaluation.benchmarks", name, nearest(name, sorted(BENCHMARKS)))
    if len(set(names)) < len(names):
        refuse("evaluation.benchmarks", names, "a benchmark is named twice; name each once")


def _check_files(config: Experiment) -> None:
    """Check that each benchmark's files are named, and that it has the split."""
    split = config.evaluation.split
    for row in _benchmarks(config):
        # the same source: data.root is the root
        if row.needs_root and row.source != config.data.source and config.benchmark_root is None:
            refuse(
                "benchmark_root",
                None,
                f"benchmark {row.name} needs its files: benchmark_root=DIR, {row.layout}",
            )
    for row in _benchmarks(config):
        if split is not None and split not in row.splits:
            refuse(
                "evaluation.split",
                split,
                f"{row.name} has no such split to measure on; {nearest(split, row.splits)}",
            )


def _check_protocol_names(config: Experiment) -> None:
    for measure in MEASURES.values():
        name = None if measure.key is None else getattr(config.evaluation, measure.key)
        if name is not None and name not in measure.protocols:
            refuse(f"evaluation.{measure.key}", name, nearest(name, measure.protocols))
    name = config.evaluation.grouping_protocol
    if (
        name is not None
        and MEASURES["grouping"].protocols[name].method == "attention"
        and config.image.family == "cnn"
    ):
        refuse(
            "evaluation.grouping_protocol",
            name,
            "needs the attention of a class token, and a cnn has none; choose pca_square",
        )


def _check_calibration(config: Experiment) -> None:
    evaluation = config.evaluation
    if evaluation.calibration is not None:
        read_calibration(evaluation.calibration).check_scored(
            threshold=evaluation.threshold,
            benchmarks=evaluation.benchmarks,
            split=evaluation.split or "val",
        )


def _check_threshold(config: Experiment) -> None:
    evaluation = config.evaluation
    if (
        evaluation.background == "threshold"
        and evaluation.threshold is None
        and evaluation.calibration is None
    ):
        refuse(
            "evaluation.threshold",
            None,
            "background=threshold needs a cosine, such as evaluation.threshold=0.2",
        )


def _check_segmentation(config: Experiment, benchmark: Benchmark) -> None:
    """Check that the changes of a benchmark's protocol are compatible with the rest of the
    protocol.
    """
    name = benchmark.protocol_name("segmentation", chosen=config.evaluation.protocol)
    changes = segmentation_changes(config, benchmark)
    calibration = calibration_for(benchmark.name, file=config.evaluation.calibration)
    if calibration is not None:
        calibration.check_protocol_name(
            name, protocol=MEASURES["segmentation"].protocols[name].protocol
        )
    try:
        protocol = (
            MEASURES["segmentation"].protocols[name].build(label_set=benchmark.label_set, **changes)
        )
    except ValueError as error:
        given = ", ".join(
            f"evaluation.{key}={value}" for key, value in changes.items() if value is not None
        )
        raise ConfigError(f"{given}, benchmark {benchmark.name}: {error}") from error
    if protocol.missing_library():
        refuse("evaluation.refinement", "crf", protocol.missing_library())


def _benchmarks(config: Experiment) -> list[Benchmark]:
    return [BENCHMARKS[name] for name in config.evaluation.benchmarks]
