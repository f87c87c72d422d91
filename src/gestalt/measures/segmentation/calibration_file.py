"""A threshold chosen by ``calibrate``, read from its file."""

import json
from pathlib import Path
from typing import NamedTuple

from gestalt.measures.evaluation.protocols import ImageProtocol
from gestalt.measures.keys import Evaluation
from gestalt.support.files import file_hash, read_json
from gestalt.support.keys import Keys
from gestalt.support.typed import ConfigError

KEY = "evaluation.calibration"
CHOSEN_ON = ("split", "image_set", "images", "images_official", "miou")
"""Facts of the images that a threshold was chosen on, and its score there."""


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
            raise self.error(
                f"it is for benchmark {self.benchmark}, but evaluation.benchmarks="
                f"[{', '.join(benchmarks)}]; add it, or leave the file out"
            )
        if shares_images(self.source["split"], split):
            raise self.error(
                f"it was chosen on split {self.source['split']} of {self.source['image_set']}, "
                f"which shares images with split {split}; score another"
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
        ConfigError: no such file, or it holds something else.
    """
    if file is not None:
        calibration = read_calibration(file)
        if calibration.benchmark == benchmark:
            return calibration
    return None


def protocol_fields(protocol: ImageProtocol) -> Keys:
    """Return the fields that a threshold depends on, as JSON has them."""
    fields = json.loads(json.dumps(protocol.fields()))
    return {key: value for key, value in fields.items() if key not in ("threshold", "source")}


def shares_images(split: str, other: str) -> bool:
    """Return True if two splits of a set share images, or one is not stated."""
    return split == other or bool({split, other} & {"trainval", ""})
