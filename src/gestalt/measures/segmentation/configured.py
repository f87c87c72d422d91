"""The keys of ``evaluation``: checks that need no other keys, and the protocol that they give a
benchmark's segmentation, with a threshold chosen by ``calibrate``, read from its file.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.measures.dense.protocol import NO_CRF, TopDownProtocol
from gestalt.measures.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.measures.keys import Evaluation
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.support.files import file_hash, read_json
from gestalt.support.keys import Complaints, Keys, refuse, refuse_first
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

CHANGES = tuple(
    key for key in Evaluation.__dataclass_fields__ if key in TopDownProtocol.__dataclass_fields__
)
"""Keys of ``evaluation`` that change the field of their name of a segmentation protocol."""


KEY = "evaluation.calibration"
CHOSEN_ON = ("split", "image_set", "images", "images_official", "miou")
"""Facts of the images that a threshold was chosen on, and its score there."""


class Calibration(NamedTuple):
    """A file of ``calibrations/``.

    Attributes:
        fields: fields of the protocol it was chosen under, without threshold and source.
        label_set: the digest of the classes and their phrases.
        source: file, benchmark, threshold, split, images and weights, for a record.
    """

    fields: Keys
    label_set: str
    source: Keys

    def check_settings(self, protocol: ImageProtocol, *, label_set: str) -> None:
        """Check that protocol and classes match those that the threshold was chosen for.

        Args:
            protocol: the protocol that the benchmark is scored by.
            label_set: the digest of the classes and their phrases.

        Raises:
            ConfigError: names each difference.
        """
        scored = protocol_fields(protocol) | {"label_set": label_set}
        chosen = self.fields | {"label_set": self.label_set}
        differences = [
            f"{key} was {chosen.get(key)!r}, is now {scored.get(key)!r}"
            for key in scored | chosen
            if chosen.get(key) != scored.get(key)
        ]
        if differences:
            raise self.error(
                f"{'; '.join(differences)}; score with the calibrated settings, or calibrate again"
            )

    def error(self, reason: str) -> ConfigError:
        """Return the error that refuses the file."""
        return ConfigError(f"{KEY}={self.source['file']}: {reason}")


def read_calibration(file: str) -> Calibration:
    """Read a file that ``calibrate`` wrote.

    Raises:
        ConfigError: no such file, or it holds something else.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(
            f"{KEY}={file}: no such file; `gestalt eval --calibrate` writes one into the run's "
            "folder calibrations/"
        )
    try:
        record = read_json(path, "calibration")
    except ValueError as error:
        raise ConfigError(
            f"{KEY}={file}: not the JSON that `gestalt eval --calibrate` writes ({error}); "
            "calibrate again"
        ) from error
    source = {
        "file": file,
        "sha256": file_hash(path),
        "benchmark": record["benchmark"],
        **{key: record["chosen_on"][key] for key in CHOSEN_ON},
        "threshold": record["threshold"],
        "weights_sha256": record["weights_sha256"],
    }
    return Calibration(
        fields=record["protocol"]["fields"], label_set=record["label_set"], source=source
    )


def calibration_for(benchmark: Benchmark, evaluation: Evaluation) -> Calibration | None:
    """Read the calibration of a benchmark; None where there is no file, or it is for another
    benchmark.

    Raises:
        ConfigError: no such file, or it holds something else.
    """
    if evaluation.calibration is not None:
        calibration = read_calibration(evaluation.calibration)
        if calibration.source["benchmark"] == benchmark.name:
            return calibration
    return None


def protocol_fields(protocol: ImageProtocol) -> Keys:
    """Return the fields that a threshold depends on, as JSON has them."""
    fields = json.loads(json.dumps(protocol.fields()))
    return {key: value for key, value in fields.items() if key not in ("threshold", "source")}


def shares_images(split: str, other: str) -> bool:
    """Return True if two splits of a set share images, or one is not stated."""
    return split == other or bool({split, other} & {"trainval", ""})


def segmentation_changes(evaluation: Evaluation, benchmark: Benchmark) -> dict[str, Any]:
    """Return the fields that a configuration changes of a benchmark's segmentation protocol; None
    keeps a field.

    Raises:
        ConfigError: the calibration file cannot be read.
    """
    changes = {key: getattr(evaluation, key) for key in CHANGES}
    calibration = calibration_for(benchmark, evaluation)
    if calibration is not None:
        changes["threshold"] = calibration.source["threshold"]
    return changes


def check_segmentation(evaluation: Evaluation, benchmark: Benchmark) -> None:
    """Check that the changes of a benchmark's protocol are compatible with the rest of the
    protocol.

    Raises:
        ConfigError: names the keys and the reason.
    """
    name = benchmark.protocol_name("segmentation", evaluation)
    preset = MEASURES["segmentation"].protocols[name]
    changes = segmentation_changes(evaluation, benchmark)
    calibration = calibration_for(benchmark, evaluation)
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
        why = "without a prior it has no effect; set evaluation.prior too, or choose null"
        refuse("evaluation.prior_offset", changes["prior_offset"], why)
    if protocol.refinement == "crf" and find_spec("pydensecrf") is None:
        refuse("evaluation.refinement", "crf", NO_CRF)


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
        benchmark.protocol_name("segmentation", evaluation),
        label_set=label_set,
        has_background=has_background,
        tower_size=size,
        **segmentation_changes(evaluation, benchmark),
    )


def check_evaluation(evaluation: Evaluation) -> None:
    """Refuse benchmarks, splits, protocols and thresholds that do not fit each other; a calibration
    is the only threshold, for a scored benchmark, of a split that shares no images with the scored.

    Raises:
        ConfigError: names the key, the valid choices and the reason.
    """
    rows = [BENCHMARKS[name] for name in evaluation.benchmarks]
    refuse_first(evaluation, _complaints(evaluation, rows), "evaluation.")
    threshold, split = evaluation.threshold, evaluation.split or "val"
    if evaluation.calibration is not None:
        calibration = read_calibration(evaluation.calibration)
        source, scored = calibration.source, [row.name for row in rows]
        if threshold is not None:
            raise calibration.error(
                f"evaluation.threshold={threshold} is another threshold; give only one of the two"
            )
        if source["benchmark"] not in scored:
            raise calibration.error(
                f"it is for benchmark {source['benchmark']}, but evaluation.benchmarks="
                f"[{', '.join(scored)}]; add it, or leave the file out"
            )
        if shares_images(source["split"], split):
            raise calibration.error(
                f"it was chosen on split {source['split']} of {source['image_set']}, which shares "
                f"images with split {split}; score another"
            )
    elif evaluation.background == "threshold" and threshold is None:
        why = "background=threshold needs a cosine, such as evaluation.threshold=0.2"
        refuse("evaluation.threshold", None, why)
    for row in rows:
        if "segmentation" in row.measures:
            check_segmentation(evaluation, row)


def _complaints(evaluation: Evaluation, rows: list[Benchmark]) -> Complaints:
    if len({row.name for row in rows}) < len(rows):
        yield "benchmarks", "a benchmark is named twice; name each once, or set name: in its file"
    sources: dict[str, Benchmark] = {}
    for row in rows:
        for name in row.measures:
            if name not in MEASURES:
                choices = nearest(name, MEASURES)
                yield "benchmarks", f"{row.name} has the measure {name!r}; {choices}"
        other = sources.setdefault(row.image_set, row)
        if other.source != row.source:
            why = f"the sources {other.source!r} and {row.source!r}; give both the same"
            yield "benchmarks", f"{other.name} and {row.name} share {row.image_set}, but have {why}"
        if evaluation.split is not None and evaluation.split not in row.splits:
            choices = nearest(evaluation.split, row.splits) if row.splits else "choose null"
            yield "split", f"{row.name} has no such split to measure on; {choices}"
    for measure in MEASURES.values():
        chosen = getattr(evaluation, measure.key) if measure.key else None
        if chosen is not None and chosen not in measure.protocols:
            yield measure.key, nearest(chosen, measure.protocols)
