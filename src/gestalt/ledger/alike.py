"""What two numbers must share to stand in one column: protocol, classes, templates, and the very same images."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gestalt.ledger.result import Result

BENCHMARK = ("set", "images", "images_in_set", "images_with_objects", "objects", "captions", "names", "label_set", "benchmark_hash")
"""What a benchmark's entry in a record says of the benchmark itself, and not of the model."""

CALIBRATED = ("image_set", "split", "images")
"""What two calibrated thresholds must share; they themselves depend on the weights."""

LONGEST = 60
"""Characters of a value that is shown; of a longer one its hash is."""


def truth_pixels(entry: Mapping[str, Any]) -> list[int] | None:
    """How many pixels of each class the truth has; None for what is not measured by classes."""
    rows = entry.get("counts_rows", [])
    return entry["counts"]["model"][rows.index("truth")] if "truth" in rows else None


def facts(result: Result, metric: str) -> dict[str, Any]:
    """All that decides whether a metric of two results may be compared, flat; the model itself is no part of it."""
    found: dict[str, Any] = {}
    for number, entry in enumerate(result.entries(metric)):
        start = f"{number}." if number else ""
        calibration = entry.get("calibration")
        own = () if calibration is None else ("threshold", "digest")
        found |= {f"{start}protocol.{key}": value for key, value in entry.get("protocol", {}).items() if key not in own}
        found |= {} if calibration is None else {f"{start}calibration.{key}": calibration.get(key) for key in CALIBRATED}
        found |= {start + key: entry[key] for key in (*BENCHMARK, "vocabulary", "templates", "ignored_pixels") if key in entry}
        if metric.endswith("/adjusted_accuracy"):
            found[f"{start}train_groups"] = entry.get("train_groups")
        truth = truth_pixels(entry)
        if truth is not None:
            found[f"{start}truth_pixels"] = truth
        else:  # nothing tells one split from another
            found |= {f"{start}evaluation.{key}": value for key, value in asked(result).items()}
    return found


def asked(result: Result) -> dict[str, Any]:
    """Which images a result's configuration asks for; None is what the benchmark has by default."""
    evaluation = result.record["config"].get("evaluation", {})
    return {key: evaluation.get(key) for key in ("split", "limit")}


def differences(one: Result, other: Result, metric: str) -> dict[str, tuple[str, str]]:
    """The facts that differ, as text; hashes only where nothing that they hash is said to differ."""
    mine, yours = facts(one, metric), facts(other, metric)
    keys = [key for key in {**mine, **yours} if mine.get(key) != yours.get(key)]
    plain = [key for key in keys if not key.endswith(("digest", "templates", "truth_pixels", "label_set"))]
    if not plain and any(key.endswith("truth_pixels") for key in keys):  # what was asked for says it better than a hash
        mine, yours = (
            {f"evaluation.{key}": value for key, value in asked(result).items()} | found for result, found in ((one, mine), (other, yours))
        )
        plain = [f"evaluation.{key}" for key in asked(one) if asked(one)[key] != asked(other)[key]]
    return {key: (_shown(mine, key), _shown(yours, key)) for key in plain or keys}


def alike(results: Sequence[Result], metric: str) -> list[list[Result]]:
    """The results in groups that share a column, in order of first appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps(facts(result, metric), sort_keys=True), []).append(result)
    return list(groups.values())


def _shown(facts_of_one: Mapping[str, Any], key: str) -> str:
    if key not in facts_of_one:
        return "not recorded"
    text = str(facts_of_one[key])
    return text if len(text) <= LONGEST else f"another (hash {hashlib.sha256(text.encode()).hexdigest()[:8]})"
