"""Rules of comparability: the settings that must match for two results to share a column.

Results share a column of a metric if protocol, classes, templates and images are the same.
The cells of a grid may differ only in what the grid varies, so the code, the requested images, the training data and the starting weights
must match as well.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gestalt.ledger.record import CHANGED
from gestalt.ledger.result import Result

Settings = Mapping[str, Any]

BENCHMARK = ("set", "images", "images_in_set", "images_with_objects", "objects", "captions", "names", "label_set", "benchmark_hash")
"""Keys of a record's entry that describe the benchmark and not the model."""

CALIBRATION = ("image_set", "split", "images")
"""Settings of a calibration that must match; the thresholds themselves depend on the weights."""

STARTING_WEIGHTS = ("backbone", "family", "patch_size", "width", "depth", "heads", "stem", "init", "inits", "weights")
"""Keys of ``image`` that decide which weights an image tower starts from."""

TRAINING_DATA = ("source", "root", "options", "recipe", "limit", "caption", "manifest")
"""Keys of ``data`` that decide, with the parts of a mixture, which pairs a run trains on."""

PROTOCOL = "protocol.name"

NOT_RECORDED = "not recorded"

HASHED = ("digest", "templates", "truth_pixels", "label_set")
"""Endings of keys whose values are hashes or counts; shown only where no other setting differs."""

LONGEST = 60
"""Largest number of characters of a value; a longer value is shown as a hash."""

LEADING = ("evaluation.split", "evaluation.limit", "images", "input_size", "window", "scores", "background", "threshold")
"""Settings that a sentence names first; those of a protocol without their prefix."""

NAMED = 3
"""Number of settings that a sentence names; ``differing_settings`` has all."""


def measurement(result: Result, metric: str) -> dict[str, Any]:
    """Return the settings that must match for two results of a metric to be compared, flat; the model is not among them."""
    settings: dict[str, Any] = {}
    for number, entry in enumerate(result.entries(metric)):
        prefix = f"{number}." if number else ""
        described = _entry_settings(entry, metric)
        if "truth_pixels" not in described:  # then nothing in the entry identifies the split
            described |= _requested_images(result)
        settings |= {prefix + key: value for key, value in described.items()}
    return settings


def group_by_measurement(results: Sequence[Result], metric: str) -> list[list[Result]]:
    """Return the results in groups that share a column, in order of first appearance."""
    return _group(results, lambda result: measurement(result, metric))


def measurement_differences(results: Sequence[Result], metric: str) -> list[str]:
    """Return a sentence on the settings of the measurement that differ, or an empty list."""
    groups = group_by_measurement(results, metric)
    if len(groups) < 2:
        return []
    first = groups[0][0]
    keys = dict.fromkeys(key for group in groups[1:] for key in _readable_differences(first, group[0], metric))
    return [_sentence(groups, keys=list(keys), settings=lambda result: {**_requested_images(result), **measurement(result, metric)})]


def differing_settings(results: Sequence[Result], metric: str) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table of every setting of the measurement that differs, a column for each group; no rows if none does."""
    groups = group_by_measurement(results, metric)
    values = [{**_requested_images(group[0]), **measurement(group[0], metric)} for group in groups]
    keys = [key for key in dict.fromkeys(key for row in values for key in row) if any(row.get(key) != values[0].get(key) for row in values)]
    rows = [[key, *(str(row[key]) if key in row else NOT_RECORDED for row in values)] for key in keys]
    return ["setting", *map(_group_name, groups)], rows if len(groups) > 1 else []


def setup_differences(results: Sequence[Result]) -> list[str]:
    """Return sentences on what the runs of a grid must share beyond their measurement, or an empty list.

    These are the commit, the requested images, and the training data and the weights of inits that the configuration does not tell apart.
    """
    sentences = _differences(results, lambda result: {"commit": result.commit})
    sentences += _differences(results, _requested_images)
    for same_request in _group(results, _requested_data):
        sentences += _differences(same_request, lambda result: {"data.digest": result.record.get("data", {}).get("digest")})
    for same_start in _group(results, _starting_configuration):
        sentences += _differences(same_start, _starting_weights)
    return sentences


def distinctions(groups: Sequence[Sequence[Result]], metric: str) -> list[str]:
    """Return for each group a short clause on the settings in which it differs from the others; empty for a single group."""
    if len(groups) < 2:
        return [""] * len(groups)
    settings = [{**_requested_images(group[0]), **measurement(group[0], metric)} for group in groups]
    names = [str(values.get(PROTOCOL)) for values in settings]
    if len(set(names)) == len(names):
        return names
    keys = [key for key in dict.fromkeys(key for values in settings for key in values) if _tells_apart(key, settings)]
    readable = [key for key in keys if not key.endswith("digest")] or keys
    clauses = [", ".join(f"{_last(key)} {_in_a_clause(values, key)}" for key in readable[:NAMED]) for values in settings]
    if len(set(clauses)) == len(clauses):
        return clauses
    return [f"{clause}; {number}" for number, clause in enumerate(clauses, start=1)]


def code_notes(results: Sequence[Result]) -> list[str]:
    """Return a note for each commit that is unknown, or from which files differed."""
    inexact = {result.commit for result in results if result.commit == "unknown" or result.commit.endswith(CHANGED)}
    return [f"Commit {commit}: the exact code is not recorded." for commit in sorted(inexact)]


def step_notes(results: Sequence[Result]) -> list[str]:
    """Return a note for each result of a model that had steps of its run left."""
    short = [result for result in results if result.record.get("steps", 0) < result.record.get("steps_planned", 0)]
    return [f"{result.label} ran {result.record['steps']} of {result.record['steps_planned']} steps." for result in short]


def _entry_settings(entry: Settings, metric: str) -> dict[str, Any]:
    """Return the settings of one entry of a record; a calibrated threshold is not among them, its calibration is."""
    calibration = entry.get("calibration")
    depends_on_weights = () if calibration is None else ("threshold", "digest")
    settings = {f"protocol.{key}": value for key, value in entry.get("protocol", {}).items() if key not in depends_on_weights}
    if calibration is not None:
        settings |= {f"calibration.{key}": calibration.get(key) for key in CALIBRATION}
    settings |= {key: entry[key] for key in (*BENCHMARK, "vocabulary", "templates", "ignored_pixels") if key in entry}
    if metric.endswith("/adjusted_accuracy"):
        settings["train_groups"] = entry.get("train_groups")
    rows = entry.get("counts_rows", [])
    if "truth" in rows:
        settings["truth_pixels"] = entry["counts"]["model"][rows.index("truth")]  # of each class: differ for other images
    return settings


def _requested_images(result: Result) -> dict[str, Any]:
    """Return the split and the limit that the configuration requests; None is the benchmark's default."""
    evaluation = result.record["config"].get("evaluation", {})
    return {f"evaluation.{key}": evaluation.get(key) for key in ("split", "limit")}


def _readable_differences(first: Result, second: Result, metric: str) -> list[str]:
    """Return the keys of the settings that differ; hashes only where no other key explains them."""
    settings, others = measurement(first, metric), measurement(second, metric)
    keys = [key for key in {**settings, **others} if settings.get(key) != others.get(key)]
    readable = [key for key in keys if not key.endswith(HASHED)]
    if not readable and any(key.endswith("truth_pixels") for key in keys):
        requests = _requested_images(first), _requested_images(second)
        readable = [key for key in requests[0] if requests[0][key] != requests[1][key]]
    return readable or keys


def _tells_apart(key: str, settings: Sequence[Settings]) -> bool:
    """Return True if the setting is short enough for a heading wherever it is recorded, and not the same in all groups."""
    values = [values.get(key) for values in settings]
    return all(isinstance(value, str | int | float | None) for value in values) and any(value != values[0] for value in values)


def _last(key: str) -> str:
    """Return a setting's name without the part of the record that it belongs to."""
    return key.removeprefix("protocol.").removeprefix("evaluation.")


def _in_a_clause(settings: Settings, key: str) -> str:
    """Return a setting's value for a heading; a protocol records some settings only where they differ from their default."""
    value = settings.get(key)
    return str(value) if value is not None else "none" if key in settings and key.startswith("protocol.") else "default"


def _requested_data(result: Result) -> dict[str, Any]:
    """Return the keys that must lead to the same training data; of a path, its last part."""
    data = result.record["config"].get("data", {})
    parts = [{key: data.get(key) for key in TRAINING_DATA}, *data.get("mixture", ())]
    return {"data": [part | {key: Path(part[key]).name for key in ("root", "manifest") if part.get(key)} for part in parts]}


def _starting_configuration(result: Result) -> dict[str, Any]:
    """Return the keys that must lead to the same first weights: architecture and init."""
    image = result.record["config"].get("image", {})
    return {key: image.get(key) for key in STARTING_WEIGHTS}


def _starting_weights(result: Result) -> dict[str, str]:
    """Return the init that a run used, and the first digits of its file's hash."""
    init = result.record["image_init"]
    return {f"weights used for image.init={init['asked']}": f"{init['used']} {str(init.get('sha256') or '')[:8]}".strip()}


def _group(results: Sequence[Result], settings: Callable[[Result], Settings]) -> list[list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps(settings(result), sort_keys=True), []).append(result)
    return list(groups.values())


def _differences(results: Sequence[Result], settings: Callable[[Result], Settings]) -> list[str]:
    """Return a sentence on the settings that not all results share; all results must have the same keys."""
    groups = _group(results, settings)
    values = [settings(group[0]) for group in groups]
    keys = [key for key in (values[0] if values else ()) if any(row[key] != values[0][key] for row in values)]
    return [_sentence(groups, keys=keys, settings=settings)] if keys else []


def _sentence(groups: Sequence[Sequence[Result]], *, keys: Sequence[str], settings: Callable[[Result], Settings]) -> str:
    """Name the groups by their first result, then their protocols if these differ, then the few settings that tell most."""
    values = [settings(group[0]) for group in groups]
    ordered = sorted((key for key in keys if key != PROTOCOL), key=lambda key: _place(key, values))
    listed = [f"{key} is {' vs '.join(_shown(row, key) for row in values)}" for key in ordered[:NAMED]]
    listed += [f"and {len(ordered) - NAMED} more"] if len(ordered) > NAMED else []
    text = ", ".join(listed)
    if PROTOCOL in keys:
        names = " and ".join(dict.fromkeys(_shown(row, PROTOCOL) for row in values))
        text = f"protocols differ: {names}" + (f" ({text.replace('protocol.', '')})" if listed else "")
    return f"{' vs '.join(map(_group_name, groups))}: {text}"


def _group_name(group: Sequence[Result]) -> str:
    return group[0].label + (f" and {len(group) - 1} more" if len(group) > 1 else "")


def _place(key: str, values: Sequence[Settings]) -> tuple[bool, int]:
    """Return what settings are sorted by: short values before long ones, then those of ``LEADING``."""
    name = key.removeprefix("protocol.")
    is_long = any(len(str(row.get(key))) > LONGEST for row in values)
    return is_long, LEADING.index(name) if name in LEADING else len(LEADING)


def _shown(settings: Settings, key: str) -> str:
    if key not in settings:
        return NOT_RECORDED
    text = "the default" if settings[key] is None and key.startswith("evaluation.") else str(settings[key])
    return text if len(text) <= LONGEST else f"a value with hash {hashlib.sha256(text.encode()).hexdigest()[:8]}"
