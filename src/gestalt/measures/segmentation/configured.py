"""The protocol that the keys of ``evaluation`` give a benchmark's segmentation."""

from typing import Any

from gestalt.measures.evaluation.benchmarks import Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.keys import Evaluation
from gestalt.measures.segmentation.calibration_file import calibration_for
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.measures.segmentation.protocol import TopDownProtocol
from gestalt.support.keys import refuse
from gestalt.support.typed import ConfigError

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
    "prior",
    "prior_offset",
)
"""Keys of ``evaluation`` that change fields of a segmentation protocol."""


def segmentation_changes(evaluation: Evaluation, benchmark: Benchmark) -> dict[str, Any]:
    """Return the fields that a configuration changes of a benchmark's segmentation protocol; None
    keeps a field.

    Raises:
        ConfigError: the calibration file cannot be read.
    """
    changes = {key: getattr(evaluation, key) for key in CHANGES}
    calibration = calibration_for(benchmark.name, file=evaluation.calibration)
    if calibration is not None:
        changes["threshold"] = calibration.threshold
    return changes


def check_segmentation(evaluation: Evaluation, benchmark: Benchmark) -> None:
    """Check that the changes of a benchmark's protocol are compatible with the rest of the
    protocol.

    Raises:
        ConfigError: names the keys and the reason.
    """
    name = benchmark.protocol_name("segmentation", chosen=evaluation.protocol)
    preset = MEASURES["segmentation"].protocols[name]
    changes = segmentation_changes(evaluation, benchmark)
    calibration = calibration_for(benchmark.name, file=evaluation.calibration)
    if calibration is not None:
        chosen = calibration.fields.get("name")
        if preset.protocol.name != chosen:
            raise calibration.error(
                f"it was chosen under {chosen}, {benchmark.name} would be scored under {name}; "
                f"choose evaluation.protocol={chosen}"
            )
    try:
        protocol = preset.build(label_set=benchmark.label_set, **changes)
    except ValueError as error:
        given = ", ".join(
            f"evaluation.{key}={value}" for key, value in changes.items() if value is not None
        )
        raise ConfigError(f"{given}, benchmark {benchmark.name}: {error}") from error
    if changes["prior_offset"] is not None and protocol.prior == 0:
        why = "without a prior it has no effect; set evaluation.prior too"
        refuse("evaluation.prior_offset", changes["prior_offset"], why)
    if protocol.missing_library():
        refuse("evaluation.refinement", "crf", protocol.missing_library())


def segmentation_protocol(
    evaluation: Evaluation,
    benchmark: Benchmark,
    *,
    size: int,
    label_set: str | None = None,
    has_background: bool = True,
) -> TopDownProtocol:
    """Return the benchmark's top-down protocol for a label set, with the changes of the
    configuration.

    ``size`` is the side of images in pixels, for a protocol that fixes none.

    Raises:
        ConfigError: the calibration file cannot be read.
        ValueError: the changes do not fit the protocol.
    """
    return top_down_protocol(
        benchmark.protocol_name("segmentation", chosen=evaluation.protocol),
        label_set=label_set,
        has_background=has_background,
        tower_size=size,
        **segmentation_changes(evaluation, benchmark),
    )
