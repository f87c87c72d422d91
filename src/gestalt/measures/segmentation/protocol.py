"""The protocol that a benchmark's segmentation is scored by."""

from gestalt.config.calibration_file import calibration_for
from gestalt.config.schema import Experiment
from gestalt.evaluation.benchmarks import Benchmark
from gestalt.evaluation.protocols import TopDownProtocol, build_protocol


def segmentation_protocol(
    config: Experiment, benchmark: Benchmark, *, label_set: str | None = None, has_background: bool = True
) -> TopDownProtocol:
    """Return the benchmark's top-down protocol for a label set, with the changes of the config.

    Raises:
        ConfigError: the calibration file cannot be read.
        ValueError: the changes do not fit the protocol.
    """
    evaluation = config.evaluation
    calibration = calibration_for(benchmark.name, file=evaluation.calibration)
    return build_protocol(
        benchmark.protocol_name("segmentation", chosen=evaluation.protocol),
        label_set=label_set,
        has_background=has_background,
        tower_size=config.image.eval_size,
        background=evaluation.background,
        threshold=evaluation.threshold if calibration is None else calibration.threshold,
        defects=evaluation.defects,
        refinement=evaluation.refinement,
    )
