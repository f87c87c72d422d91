"""Rules of comparability: the settings that must match for two results to share a column.

Results share a column of a metric if protocol, classes, templates and images are the same:
``measurement`` has these settings. The cells of a grid may differ only in what the grid varies, so
the code, the requested images, the training data and the starting weights must match as well:
``setup_differences``.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gestalt.results.record import CHANGED
from gestalt.results.result import Result

Settings = Mapping[str, Any]

BENCHMARK = (
    *(
        "set",
        "images",
        "images_in_set",
        "images_with_objects",
        "objects",
        "captions",
        "names",
        "label_set",
        "benchmark_hash",
    ),
    *("vocabulary", "templates", "ignored_pixels"),
)
"""Keys of a record's entry that describe the benchmark and not the model."""

CALIBRATION = ("image_set", "split", "images")
"""Settings of a calibration that must match; the thresholds themselves depend on the weights."""

STARTING_WEIGHTS = (
    "backbone",
    "family",
    "patch_size",
    "width",
    "depth",
    "heads",
    "stem",
    "init",
    "inits",
    "weights",
)
"""Keys of ``image`` that decide which weights an image tower starts from."""

TRAINING_DATA = ("source", "root", "options", "recipe", "limit", "caption", "manifest")
"""Keys of ``data`` that decide, with the parts of a mixture, which pairs a run trains on."""

PROTOCOL = "protocol.name"

NOT_RECORDED = "not recorded"

HASHED = ("digest", "templates", "truth_pixels", "label_set")
"""Endings of keys whose values are hashes or counts; shown only where no other setting differs."""

LONGEST = 60
"""Largest number of characters of a value; a longer value is shown as a hash."""

LEADING = (
    "evaluation.split",
    "evaluation.limit",
    "images",
    "input_size",
    "window",
    "scores",
    "background",
    "threshold",
)
"""Settings that a sentence names first; those of a protocol without their prefix."""

NAMED = 3
"""Number of settings that a sentence names; ``differing_settings`` has all."""


def measurement(result: Result, metric: str) -> dict[str, Any]:
    """Return the settings that must match for two results of a metric to be compared, flat; the
    model is not among them.
    """
    settings: dict[str, Any] = {}
    for number, entry in enumerate(result.entries(metric)):
        described = _entry_settings(entry, metric)
        if "truth_pixels" not in described:  # then nothing in the entry identifies the split
            described |= _requested_images(result)
        settings |= {
            f"{number}.{key}" if number else key: value for key, value in described.items()
        }
    return settings


def group_by_measurement(results: Sequence[Result], metric: str) -> list[list[Result]]:
    """Return the results in groups that share a column, in order of first appearance."""
    return _group(results, lambda result: measurement(result, metric))


def measurement_differences(results: Sequence[Result], metric: str) -> list[str]:
    """Return a sentence on the settings of the measurement that differ, or an empty list."""
    groups = group_by_measurement(results, metric)
    described = [_described(group[0], metric) for group in groups]
    keys: dict[str, None] = {}
    for other in described[1:]:
        differing = _differing([described[0], other])
        keys |= dict.fromkeys([key for key in differing if not key.endswith(HASHED)] or differing)
    return [_sentence(groups, keys=list(keys), values=described)] if len(groups) > 1 else []


def differing_settings(results: Sequence[Result], metric: str) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table of every setting of the measurement that differs, a column
    for each group; no rows if none does.
    """
    groups = group_by_measurement(results, metric)
    values = [_described(group[0], metric) for group in groups]
    rows = [
        [key, *(str(row.get(key, NOT_RECORDED)) for row in values)] for key in _differing(values)
    ]
    return ["setting", *map(_group_name, groups)], rows


def setup_differences(results: Sequence[Result]) -> list[str]:
    """Return sentences on what the runs of a grid must share beyond their measurement, or an empty
    list.

    These are the commit, the requested images, and the training data and the weights of inits that
    the configuration does not tell apart.
    """
    sentences = _differences(results, lambda result: {"commit": result.commit})
    sentences += _differences(results, _requested_images)
    for same_request in _group(results, _requested_data):
        sentences += _differences(
            same_request,
            lambda result: {"data.digest": result.record.get("data", {}).get("digest")},
        )
    for same_start in _group(results, _starting_configuration):
        sentences += _differences(same_start, _starting_weights)
    return sentences


def distinctions(groups: Sequence[Sequence[Result]], metric: str) -> list[str]:
    """Return for each group a short clause on the settings in which it differs from the others;
    empty for a single group.
    """
    if len(groups) < 2:
        return [""] * len(groups)
    settings = [_described(group[0], metric) for group in groups]
    names = [str(values.get(PROTOCOL)) for values in settings]
    if len(set(names)) == len(names):
        return names
    short = [
        key
        for key in _differing(settings)
        if all(isinstance(row.get(key), str | int | float | None) for row in settings)
    ]
    readable = [key for key in short if not key.endswith("digest")] or short
    clauses = []
    for number, row in enumerate(settings, start=1):
        clause = ", ".join(
            f"{key.rpartition('.')[2]} {_shown(row, key)}" for key in readable[:NAMED]
        )
        clauses.append(f"{clause}; {number}" if clause in clauses else clause)
    return clauses


def run_notes(results: Sequence[Result]) -> list[str]:
    """Return a note for each result of a model that had steps of its run left, and for each commit
    that does not state the exact code.
    """
    short = [
        result
        for result in results
        if result.record.get("steps", 0) < result.record.get("steps_planned", 0)
    ]
    notes = [
        f"{result.label} ran {result.record['steps']} of {result.record['steps_planned']} steps."
        for result in short
    ]
    inexact = {
        result.commit
        for result in results
        if result.commit == "unknown" or result.commit.endswith(CHANGED)
    }
    return notes + [
        f"Commit {commit}: the exact code is not recorded." for commit in sorted(inexact)
    ]


def _entry_settings(entry: Settings, metric: str) -> dict[str, Any]:
    """Return the settings of one entry of a record; a calibrated threshold is not among them, its
    calibration is.
    """
    settings = {f"protocol.{key}": value for key, value in entry.get("protocol", {}).items()}
    calibration = entry.get("calibration")
    if calibration is not None:
        for key in ("protocol.threshold", "protocol.digest"):  # they depend on the weights
            settings.pop(key, None)
        settings |= {f"calibration.{key}": calibration.get(key) for key in CALIBRATION}
    settings |= {key: entry[key] for key in BENCHMARK if key in entry}
    if metric.endswith("/adjusted_accuracy"):
        settings["train_groups"] = entry.get("train_groups")
    rows = entry.get("counts_rows", [])
    if "truth" in rows:
        # of each class: differ for other images
        settings["truth_pixels"] = entry["counts"]["model"][rows.index("truth")]
    return settings


def _requested_images(result: Result) -> dict[str, Any]:
    """Return the split and the limit that the configuration requests; None is the benchmark's
    default.
    """
    evaluation = result.record["config"].get("evaluation", {})
    return {f"evaluation.{key}": evaluation.get(key) for key in ("split", "limit")}


def _described(result: Result, metric: str) -> dict[str, Any]:
    """Return the settings that describe a measurement: those that must match, and the requested
    images.
    """
    return {**_requested_images(result), **measurement(result, metric)}


def _requested_data(result: Result) -> dict[str, Any]:
    """Return the keys that must lead to the same training data; of a path, its last part."""
    data = result.record["config"].get("data", {})
    parts = [{key: data.get(key) for key in TRAINING_DATA}, *data.get("mixture", ())]
    return {
        "data": [
            part | {key: Path(part[key]).name for key in ("root", "manifest") if part.get(key)}
            for part in parts
        ]
    }


def _starting_configuration(result: Result) -> dict[str, Any]:
    """Return the keys that must lead to the same first weights: architecture and init."""
    image = result.record["config"].get("image", {})
    return {key: image.get(key) for key in STARTING_WEIGHTS}


def _starting_weights(result: Result) -> dict[str, str]:
    """Return the init that a run used, and the first digits of its file's hash."""
    init = result.record["image_init"]
    digest = str(init.get("sha256") or "")[:8]
    return {f"weights used for image.init={init['asked']}": f"{init['used']} {digest}".strip()}


def _group(results: Sequence[Result], settings: Callable[[Result], Settings]) -> list[list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps(settings(result), sort_keys=True), []).append(result)
    return list(groups.values())


def _differing(rows: Sequence[Settings]) -> list[str]:
    """Return the keys whose values are not the same in all rows, in order of first appearance."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if any(row.get(key) != rows[0].get(key) for row in rows)]


def _differences(results: Sequence[Result], settings: Callable[[Result], Settings]) -> list[str]:
    """Return a sentence on the settings that not all results share; all results must have the same
    keys.
    """
    groups = _group(results, settings)
    values = [settings(group[0]) for group in groups]
    return [_sentence(groups, keys=_differing(values), values=values)] if len(groups) > 1 else []


def _sentence(
    groups: Sequence[Sequence[Result]], *, keys: Sequence[str], values: Sequence[Settings]
) -> str:
    """Name the groups by their first result, then their protocols if these differ, then the few
    settings that tell most.
    """
    ordered = sorted((key for key in keys if key != PROTOCOL), key=lambda key: _rank(key, values))
    listed = [
        f"{key} is {' vs '.join(_shown(row, key) for row in values)}" for key in ordered[:NAMED]
    ]
    if len(ordered) > NAMED:
        listed.append(f"and {len(ordered) - NAMED} more")
    text = ", ".join(listed)
    if PROTOCOL in keys:
        names = " and ".join(dict.fromkeys(_shown(row, PROTOCOL) for row in values))
        text = f"protocols differ: {names}" + (
            f" ({text.replace('protocol.', '')})" if listed else ""
        )
    return f"{' vs '.join(map(_group_name, groups))}: {text}"


def _group_name(group: Sequence[Result]) -> str:
    return group[0].label + (f" and {len(group) - 1} more" if len(group) > 1 else "")


def _rank(key: str, values: Sequence[Settings]) -> tuple[bool, int]:
    """Sort key of settings: short values before long ones, then those of ``LEADING``."""
    name = key.removeprefix("protocol.")
    is_long = any(len(str(row.get(key))) > LONGEST for row in values)
    return is_long, LEADING.index(name) if name in LEADING else len(LEADING)


def _shown(settings: Settings, key: str) -> str:
    if key not in settings:
        return NOT_RECORDED
    text = (
        "the default"
        if settings[key] is None and key.startswith("evaluation.")
        else str(settings[key])
    )
    return (
        text
        if len(text) <= LONGEST
        else f"a value with hash {hashlib.sha256(text.encode()).hexdigest()[:8]}"
    )
