"""Checks of ``evaluation``: benchmarks, splits, protocols and thresholds that fit each other."""

from pathlib import Path

from gestalt.config.schema import Experiment
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.segmentation.calibration_file import calibration_for, read_calibration
from gestalt.measures.segmentation.configured import segmentation_changes
from gestalt.support.keys import Complaints, refuse, refuse_first
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError
from gestalt.tables import IMAGE_TOWERS


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


def check_evaluation(config: Experiment) -> None:
    """Refuse an evaluation that cannot be scored.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    evaluation = config.evaluation
    names = evaluation.benchmarks
    for name in names:
        if name not in BENCHMARKS:
            hint = f"for your own file write ./{name}.yaml; " * Path(f"{name}.yaml").is_file()
            refuse("evaluation.benchmarks", name, hint + nearest(name, sorted(BENCHMARKS)))
    rows = [BENCHMARKS[name] for name in names]
    refuse_first(config, _complaints(config, rows))
    if evaluation.calibration is not None:
        scored = [row.name for row in rows]
        read_calibration(evaluation.calibration).check_scored(evaluation, benchmarks=scored)
    elif evaluation.background == "threshold" and evaluation.threshold is None:
        why = "background=threshold needs a cosine, such as evaluation.threshold=0.2"
        refuse("evaluation.threshold", None, why)
    for row in rows:
        if "segmentation" in row.measures:
            _check_segmentation(config, row)


def _complaints(config: Experiment, rows: list[Benchmark]) -> Complaints:
    """Yield complaints about the benchmarks, their files and splits, and the names of
    protocols.
    """
    evaluation = config.evaluation
    if len({row.name for row in rows}) < len(rows):
        why = "a benchmark is named twice; name each once, or set name: in its file"
        yield "evaluation.benchmarks", why
    for row in rows:
        # the same source: data.root is the root
        if row.layout and row.source != config.data.source and config.benchmark_root is None:
            why = f"benchmark {row.name} needs its files: benchmark_root=DIR, {row.layout}"
            yield "benchmark_root", why
        if evaluation.split is not None and evaluation.split not in row.splits:
            choices = nearest(evaluation.split, row.splits) if row.splits else "choose null"
            yield "evaluation.split", f"{row.name} has no such split to measure on; {choices}"
    for measure in MEASURES.values():
        name = None if measure.key is None else getattr(evaluation, measure.key)
        if name is not None and name not in measure.protocols:
            yield f"evaluation.{measure.key}", nearest(name, measure.protocols)
    name = evaluation.grouping_protocol
    protocols = MEASURES["grouping"].protocols
    if name and protocols[name].method == "attention" and config.image.family != "vit":
        why = "needs the attention of a class token, which only a vit has; choose pca_square"
        yield "evaluation.grouping_protocol", why
    if config.image.family not in IMAGE_TOWERS.built_in:
        for key, usual in {"reading": "plain", "positions": "timm"}.items():
            if getattr(evaluation, key) not in (None, usual):
                yield f"evaluation.{key}", "is for towers of timm; choose null"


def _check_segmentation(config: Experiment, benchmark: Benchmark) -> None:
    """Check that the changes of a benchmark's protocol are compatible with the rest of the
    protocol.
    """
    name = benchmark.protocol_name("segmentation", chosen=config.evaluation.protocol)
    preset = MEASURES["segmentation"].protocols[name]
    changes = segmentation_changes(config.evaluation, benchmark)
    calibration = calibration_for(benchmark.name, file=config.evaluation.calibration)
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
