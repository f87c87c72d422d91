"""A threshold that ``calibrate`` chose: read from its file, and used only where all else is as it was there."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gestalt.config.schema import ConfigError
from gestalt.evaluation.protocols import PRESETS, TopDownProtocol

NEEDED = {"benchmark": str, "threshold": float, "chosen_on": dict, "protocol": dict, "label_set": str, "weights_sha256": str}
KEY = "evaluation.calibration"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What a file of ``calibrations/`` says.

    Attributes:
        benchmark: whose threshold it is.
        threshold: what was chosen.
        fields: of the protocol it was chosen under, its threshold and source left out.
        label_set: the digest of the classes and their phrases.
        said: where it is from, for a record: file, split, images, weights.
    """

    benchmark: str
    threshold: float
    fields: dict[str, Any]
    label_set: str
    said: dict[str, Any]


def protocol_fields(protocol: TopDownProtocol) -> dict[str, Any]:
    """All that a threshold depends on, as JSON has it."""
    fields: dict[str, Any] = json.loads(json.dumps(protocol.fields()))
    return {key: value for key, value in fields.items() if key not in ("threshold", "source")}


def read_calibration(file: str) -> Calibration:
    """Read what ``calibrate`` wrote.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"{KEY}={file}: no such file; `gestalt calibrate` writes one into the run's folder calibrations/")
    content = path.read_bytes()
    try:
        record = json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{KEY}={file}: not the JSON that `gestalt calibrate` writes ({error})") from error
    lack = _lacks(record)
    if lack:
        raise ConfigError(f"{KEY}={file}: it has no {lack}; give a file that this program's `gestalt calibrate` wrote, or calibrate again")
    said = {"file": file, "sha256": hashlib.sha256(content).hexdigest(), "benchmark": record["benchmark"], **record["chosen_on"]}
    said |= {"threshold": record["threshold"], "weights_sha256": record["weights_sha256"]}
    return Calibration(record["benchmark"], record["threshold"], record["protocol"]["fields"], record["label_set"], said=said)


def _lacks(record: Any) -> str:
    """What a calibration has and this has not, or not of the right kind."""
    lacking = [key for key, kind in NEEDED.items() if not isinstance(record, dict) or type(record.get(key)) is not kind]
    if lacking:
        return ", ".join(lacking)
    inner = {"fields of its protocol": record["protocol"].get("fields"), "image_set": record["chosen_on"].get("image_set")}
    inner |= {"split": record["chosen_on"].get("split")}
    return ", ".join(key for key, value in inner.items() if not value)


def threshold_for(name: str, *, file: str | None, threshold: float | None) -> float | None:
    """The threshold that a benchmark is asked to have: that of the calibration ``file`` where it is for it, else ``threshold``."""
    found = None if file is None else read_calibration(file)
    return found.threshold if found is not None and found.benchmark == name else threshold


def calibration_for(name: str, *, file: str | None, protocol: TopDownProtocol, label_set: str) -> dict[str, Any] | None:
    """What the record of a benchmark says of its calibrated threshold; None where it has none.

    Args:
        name: of the benchmark.
        file: of the calibration, if any.
        protocol: that the benchmark is scored by.
        label_set: the digest of the classes and their phrases.

    Raises:
        ConfigError: the threshold was chosen under another protocol or for other classes.
    """
    found = None if file is None else read_calibration(file)
    if found is None or found.benchmark != name:
        return None
    here = protocol_fields(protocol) | {"label_set": label_set}
    there = found.fields | {"label_set": found.label_set}
    other = [f"{key} was {there.get(key)!r} there, is {here.get(key)!r} here" for key in here | there if there.get(key) != here.get(key)]
    if other:
        raise ConfigError(f"{KEY}={file}: {'; '.join(other)}; score as there, or calibrate again")
    return found.said


def check_calibration(file: str, *, threshold: float | None, benchmarks: Sequence[str], split: str) -> None:
    """Refuse a calibration that goes with nothing that is scored, or that was chosen on what is.

    Args:
        file: of the calibration.
        threshold: what else is asked for.
        benchmarks: that are scored.
        split: on which.

    Raises:
        ConfigError: as said, or as ``read_calibration``.
    """
    found = read_calibration(file)
    if threshold is not None:
        raise ConfigError(f"{KEY}={file}: evaluation.threshold={threshold} is another threshold; give one")
    if found.benchmark not in benchmarks:
        raise ConfigError(f"{KEY}={file}: it is for benchmark {found.benchmark}, scored are {', '.join(benchmarks) or 'none'}")
    if flatters(found.said["split"], split):
        where = f"split {found.said['split']} of {found.said['image_set']}"
        raise ConfigError(f"{KEY}={file}: it was chosen on {where}, which shares images with split {split}; score another")


def check_protocol(file: str, name: str, *, protocol: str) -> None:
    """Refuse to score benchmark ``name`` by the calibration ``file`` under a protocol of another name.

    Raises:
        ConfigError: as said, or as ``read_calibration``.
    """
    found = read_calibration(file)
    chosen = found.fields.get("name")
    if found.benchmark == name and PRESETS[protocol].protocol.name != chosen:
        raise ConfigError(
            f"{KEY}={file}: it was chosen under {chosen}, {name} would be scored under {protocol}; say evaluation.protocol={chosen}"
        )


def flatters(chosen: str, scored: str) -> bool:
    """Whether what is chosen on one split is chosen on images of the other."""
    return chosen == scored or "trainval" in (chosen, scored)
