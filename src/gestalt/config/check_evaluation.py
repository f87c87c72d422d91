"""What may be measured: combinations that cannot be scored, refused before anything heavy is imported."""

from importlib.util import find_spec
from typing import Any

from gestalt.config.calibration_file import calibration_for, read_calibration
from gestalt.config.schema import ConfigError, Experiment
from gestalt.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.evaluation.measures import PROTOCOL_KEYS
from gestalt.evaluation.protocols import GROUPING_PROTOCOLS, build_protocol
from gestalt.evaluation.protocols.top_down import NO_CRF
from gestalt.support.names import nearest


def refuse(key: str, value: Any, why: str) -> None:
    """One line that names the key, what it is and what would be right."""
    raise ConfigError(f"{key}={value}: {why}")


def check_has_masks(benchmark: str) -> None:
    """Refuse to calibrate on what measures no segmentation.

    Raises:
        ConfigError: lists what does.
    """
    known = [name for name, row in BENCHMARKS.items() if "segmentation" in row.measures]
    if benchmark not in known:
        raise ConfigError(f"--bench {benchmark}: choose one that measures segmentation: {', '.join(known)}")


def check_evaluation(config: Experiment) -> None:
    """Benchmarks, splits, protocols and thresholds that go together.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    if len(set(config.evaluation.benchmarks)) < len(config.evaluation.benchmarks):
        refuse("evaluation.benchmarks", config.evaluation.benchmarks, "names one twice; choose each once")
    for name in config.evaluation.benchmarks:
        if name not in BENCHMARKS:
            refuse("evaluation.benchmarks", name, nearest(name, sorted(BENCHMARKS)))
        row = BENCHMARKS[name]
        trained_on = row.source == config.data.source  # its root is data.root
        if row.needs_root and not trained_on and config.benchmark_root is None:
            refuse("benchmark_root", None, f"benchmark {name} needs its files: benchmark_root=DIR, {row.layout}")
        split, splits = config.evaluation.split, row.splits
        if split is not None and split not in splits:
            refuse("evaluation.split", split, f"{name} has no such split to measure on; {nearest(split, list(splits))}")
    for key, known in PROTOCOL_KEYS.items():
        if getattr(config.evaluation, key) not in (None, *known):
            refuse(f"evaluation.{key}", getattr(config.evaluation, key), nearest(getattr(config.evaluation, key), list(known)))
    wanted = config.evaluation.grouping_protocol
    if wanted is not None and GROUPING_PROTOCOLS[wanted].method == "attention" and config.image.family == "cnn":
        refuse("evaluation.grouping_protocol", wanted, "needs the attention of a class token, and a cnn has none; choose pca_square")
    if config.evaluation.calibration is not None:
        read_calibration(config.evaluation.calibration).check_scored(
            threshold=config.evaluation.threshold,
            benchmarks=config.evaluation.benchmarks,
            split=config.evaluation.split or "val",
        )
    if config.evaluation.background == "threshold" and config.evaluation.threshold is None and config.evaluation.calibration is None:
        refuse("evaluation.threshold", None, "background=threshold needs a cosine, such as evaluation.threshold=0.2")
    for row in (BENCHMARKS[name] for name in config.evaluation.benchmarks):
        if "segmentation" in row.measures:
            _check_protocol(config, row)


def _check_protocol(config: Experiment, benchmark: Benchmark) -> None:
    """What the config changes of a benchmark's protocol must go with the rest of it."""
    evaluation = config.evaluation
    name = benchmark.protocol_name("segmentation", chosen=evaluation.protocol)
    changes = {key: getattr(evaluation, key) for key in ("background", "threshold", "defects", "refinement")}
    calibration = calibration_for(benchmark.name, file=evaluation.calibration)
    if calibration is not None:
        calibration.check_protocol_name(name)
        changes["threshold"] = calibration.threshold
    try:
        protocol = build_protocol(name, label_set=benchmark.label_set, **changes)
    except ValueError as error:
        given = ", ".join(f"evaluation.{key}={value}" for key, value in changes.items() if value is not None)
        raise ConfigError(f"{given}, benchmark {benchmark.name}: {error}") from error
    if protocol.refinement == "crf" and find_spec("pydensecrf") is None:
        refuse("evaluation.refinement", "crf", NO_CRF)
