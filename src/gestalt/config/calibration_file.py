"""A threshold chosen by ``calibrate``, read from its file."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.config.keys import Keys
from gestalt.config.schema import ConfigError
from gestalt.config.schema_evaluation import Evaluation
from gestalt.evaluation.protocols import ImageProtocol

NEEDED = {
    "benchmark": str,
    "threshold": float,
    "chosen_on.image_set": str,
    "chosen_on.split": str,
    "protocol.fields": dict,
    "protocol.fields.name": str,
    "label_set": str,
    "weights_sha256": str,
}
"""Keys of a file and the types of their values."""

KEY = "evaluation.calibration"


class Calibration(NamedTuple):
    """A file of ``calibrations/``.

    Attributes:
        file: its path.
        benchmark: the benchmark that the threshold is for.
        threshold: on the scores of the background rule.
        fields: fields of the protocol it was chosen under, without threshold and source.
        label_set: the digest of the classes and their phrases.
        source: file, split, images and weights, for a record.
    """

    file: str
    benchmark: str
    threshold: float
    fields: Keys
    label_set: str
    source: Keys

    def check_scored(self, evaluation: Evaluation, *, benchmarks: list[str]) -> None:
        """Check that the calibration fits what is scored: one threshold, its benchmark among the
        names of those scored, a split that shares no images with its own.

        Raises:
            ConfigError: it does not.
        """
        threshold, split = evaluation.threshold, evaluation.split or "val"
        if threshold is not None:
            raise self.error(
                f"evaluation.threshold={threshold} is another threshold; give only one of the two"
            )
        if self.benchmark not in benchmarks:
            listed = ", ".join(benchmarks)
            raise self.error(
                f"it is for benchmark {self.benchmark}, but evaluation.benchmarks=[{listed}]; add "
                "it, or leave the file out"
            )
        if shares_images(self.source["split"], split):
            chosen = f"split {self.source['split']} of {self.source['image_set']}"
            raise self.error(
                f"it was chosen on {chosen}, which shares images with split {split}; score another"
            )

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
        return ConfigError(f"{KEY}={self.file}: {reason}")


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
    content = path.read_bytes()
    try:
        record = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{KEY}={file}: not the JSON that `gestalt eval --calibrate` writes ({error})"
        ) from error
    missing = _missing(record)
    if missing:
        raise ConfigError(
            f"{KEY}={file}: it has no {missing}; give a file that this program's "
            "`gestalt eval --calibrate` wrote, or calibrate again"
        )
    source = {
        "file": file,
        "sha256": hashlib.sha256(content).hexdigest(),
        "benchmark": record["benchmark"],
        **record["chosen_on"],
        "threshold": record["threshold"],
        "weights_sha256": record["weights_sha256"],
    }
    return Calibration(
        file,
        benchmark=record["benchmark"],
        threshold=record["threshold"],
        fields=record["protocol"]["fields"],
        label_set=record["label_set"],
        source=source,
    )


def calibration_for(benchmark: str, *, file: str | None) -> Calibration | None:
    """Read the calibration of a benchmark; None where there is no file, or it is for another
    benchmark.

    Raises:
        ConfigError: as ``read_calibration``.
    """
    if file is not None:
        calibration = read_calibration(file)
        if calibration.benchmark == benchmark:
            return calibration
    return None


def _missing(record: Any) -> str:
    """Return the keys of a calibration that this record lacks or has with a wrong type."""
    missing = []
    for key, kind in NEEDED.items():
        value = record
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if type(value) is not kind or value in ("", {}):
            missing.append(key)
    return ", ".join(missing)


def protocol_fields(protocol: ImageProtocol) -> Keys:
    """Return the fields that a threshold depends on, as JSON has them."""
    fields = json.loads(json.dumps(protocol.fields()))
    return {key: value for key, value in fields.items() if key not in ("threshold", "source")}


def shares_images(split: str, other: str) -> bool:
    """Return True if two splits of a set share images."""
    return split == other or "trainval" in (split, other)
