"""The protocol that a benchmark's segmentation is scored by."""

from typing import Any

from gestalt.config.calibration_file import calibration_for
from gestalt.config.schema import Experiment
from gestalt.encoders.dense_model import DenseModel
from gestalt.evaluation.benchmarks import Benchmark
from gestalt.evaluation.protocols import TopDownProtocol, build_protocol
from gestalt.zoo.kinds import open_vision


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
        reading=evaluation.reading,
        positions=evaluation.positions,
        proxy=evaluation.proxy,
    )


def fitted(protocol: TopDownProtocol, model: Any, *, asked: bool) -> TopDownProtocol:
    """Return the protocol as a model can be read by it, and give the model the second model that the reading takes.

    A protocol's reading that the tower has no block for becomes the plain one, which ``left_out`` of the protocol then says.

    Args:
        protocol: as configured.
        model: to be scored.
        asked: True if the configuration names the reading or the positions, not only the protocol.

    Raises:
        ValueError: the reading or the positions were asked for, and the tower has no such part; or the second model cannot be opened.
    """
    if (protocol.reading, protocol.positions) == ("plain", "timm"):
        return protocol
    reason = lacking(model, protocol)
    if reason and asked:
        raise ValueError(reason)
    if reason:
        return protocol.plainly()
    if protocol.proxy and model.proxy is None:
        model.attach_proxy(open_vision(protocol.proxy))
    return protocol


def lacking(model: Any, protocol: TopDownProtocol) -> str:
    """Return the reason why a model cannot be read by a protocol; empty if it can."""
    if not isinstance(model, DenseModel):
        return f"reading={protocol.reading}: {type(model).__name__} has no dense readings"
    try:
        model.check_reading(protocol.reading)
        if protocol.positions != "timm":
            with model.positioned(protocol.positions, grid=(1, 1)):
                pass
    except ValueError as error:
        return str(error)
    return ""
