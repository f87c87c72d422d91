"""Rules of comparability: the settings that must match for two results to share a column.

Results share a column of a metric if protocol, classes, templates and images are the same:
``measurement`` has these settings. Results of one model, whose rows name what was varied, need the
same images and classes only: ``measured_images``. The cells of a grid may differ only in what the
grid varies, so the code, the requested images, the training data and the starting weights must
match as well: ``setup_differences``.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gestalt.config.schema import last_parts
from gestalt.config.start import read_start
from gestalt.encoders.keys import ARCHITECTURE
from gestalt.results.record import CHANGED
from gestalt.results.result import Result
from gestalt.results.supervision import FIELDS, OF_PAIRS, UNKNOWN
from gestalt.results.text import NONE, Table
from gestalt.support.files import Fields

Settings = Mapping[str, Any]

BENCHMARK = (
    "set",
    "images",
    "images_in_set",
    "images_with_objects",
    "objects",
    "captions",
    "names",
    "label_set",
    "benchmark_hash",
    "vocabulary",
    "templates",
    "ignored_pixels",
)
"""Keys of a record's entry that describe the benchmark and not the model."""

IMAGES = ("set", "images", "images_in_set", "image_names", "benchmark_hash", "names")
"""Keys of a record's entry that no protocol changes."""

CALIBRATION = ("image_set", "split", "images")
"""Settings of a calibration that must match; the thresholds themselves depend on the weights."""

STARTING_WEIGHTS = (*ARCHITECTURE, "init", "inits", "weights")
"""Keys of ``image`` that decide which weights an image tower starts from."""

TRAINING_DATA = (
    "source",
    "root",
    "options",
    "recipe",
    "limit",
    "caption",
    "captions",
    "caption_part",
    "manifest",
    "include",
)
"""Keys of ``data`` that decide, with the parts of a mixture, which pairs a run trains on."""

PROTOCOL = "protocol.name"

NOT_RECORDED = "not recorded"

MAX_LENGTH = 60
"""Largest number of characters of a value that a sentence shows; ``Split.table`` has all."""


def measurement(result: Result, metric: str) -> Fields:
    """Return the settings that must match for two results of a metric to be compared, flat; the
    model is not among them.
    """
    return _of_entries(
        result, metric, lambda entry: _entry_settings(entry, metric), identified_by="truth_pixels"
    )


def measured_images(result: Result, metric: str) -> Fields:
    """Return the images and classes that a metric was measured on, flat."""
    return _of_entries(
        result,
        metric,
        lambda entry: {key: entry[key] for key in IMAGES if key in entry},
        identified_by="image_names",
    )


def one_model(results: Iterable[Result]) -> bool:
    """Return True if all results are of the same weights."""
    return len({result.record.get("weights_sha256") or result.path for result in results}) == 1


def _of_entries(
    result: Result, metric: str, settings_of: Callable[[Settings], Fields], *, identified_by: str
) -> Fields:
    """Return settings of each entry of a metric, with the requested images if none of the entry's
    identifies the split.
    """
    settings: Fields = {}
    for number, entry in enumerate(result.entries(metric)):
        described = settings_of(entry)
        if identified_by not in described:
            described |= _requested_images(result)
        settings |= {
            f"{number}.{key}" if number else key: value for key, value in described.items()
        }
    return settings


class Split(NamedTuple):
    """Results in groups of equal settings, in order of first appearance.

    Attributes:
        groups: results that share all settings that must match.
        settings: for each group the settings that describe it.
    """

    groups: list[list[Result]]
    settings: Sequence[Settings]

    @property
    def names(self) -> list[str]:
        """Names of the groups, by their first results."""
        return [
            group[0].label + (f" and {len(group) - 1} more" if len(group) > 1 else "")
            for group in self.groups
        ]

    def table(self) -> Table:
        """Return every setting that differs, in order of first appearance, a column for each group;
        no rows if none does.
        """
        keys = dict.fromkeys(key for row in self.settings for key in row)
        rows = [(key, *(str(row.get(key, NOT_RECORDED)) for row in self.settings)) for key in keys]
        differing = tuple(row for row in rows if len(set(row[1:])) > 1)
        return Table("", ("setting", *self.names), differing, numbers=range(0))

    def differences(self) -> list[str]:
        """Return a sentence that names the groups and every setting that differs, with values that
        are not too long; an empty list for a single group.
        """
        if len(self.groups) < 2:
            return []
        texts = [
            f"{key} differs"
            if max(map(len, values)) > MAX_LENGTH
            else f"{key} is {' vs '.join(values)}"
            for key, *values in self.table().rows
        ]
        return [f"{' vs '.join(self.names)}: {', '.join(texts)}"]

    def distinctions(self) -> list[str]:
        """Return a different title for each group: its protocol, or else its name; empty for a
        single group.
        """
        if len(self.groups) < 2:
            return [""] * len(self.groups)
        protocols = [str(row.get(PROTOCOL)) for row in self.settings]
        return protocols if len(set(protocols)) == len(protocols) else self.names


def split_by_measurement(
    results: Iterable[Result], metric: str, *, rows_name_settings: bool = False
) -> Split:
    """Split the results that have a metric into groups that share a column; under
    ``rows_name_settings``, by their images and classes alone.
    """
    measured = [result for result in results if result.value(metric) is not None]
    settings = measured_images if rows_name_settings else measurement
    split = _split(measured, lambda result: settings(result, metric))
    groups = split.groups
    described = [_requested_images(group[0]) | measurement(group[0], metric) for group in groups]
    return Split(groups, described)


def setup_differences(results: Sequence[Result]) -> list[str]:
    """Return sentences on what the runs of a grid must share beyond their measurement, or an empty
    list.

    These are the commit, the requested images, and the training data and the weights of inits that
    the configuration does not tell apart.
    """
    splits = [
        _split(results, lambda result: {"commit": result.commit}),
        _split(results, _requested_images),
    ]
    for requested, used in (
        (_requested_data, lambda one: {"data.digest": one.record.get("data", {}).get("digest")}),
        (_requested_start, starting_weights),
    ):
        splits += [_split(group, used) for group in _split(results, requested).groups]
    return [sentence for split in splits for sentence in split.differences()]


def supervision_notes(results: Sequence[Result]) -> list[str]:
    """Return a sentence if the supervision of the results differs, or is unknown for several
    models; otherwise an empty list.
    """
    split = _split(results, lambda result: {key: result.supervision[key] for key in FIELDS})
    unknown = [key for key in FIELDS if any(UNKNOWN in row[key] for row in split.settings)]
    if found := split.differences():
        return [f"The supervision is unequal. {found[0]}."]
    if not unknown or one_model(results):
        return []
    return [f"Supervision may be unequal: {', '.join(unknown)} of all results are unknown."]


def supervision_table(results: Iterable[Result]) -> Table:
    """Return a table of supervision, with a column for each group of results with equal
    supervision.
    """
    split = _split(results, lambda result: result.supervision)
    rows = [(key, *(row.get(key, NONE) for row in split.settings)) for key in (*FIELDS, *OF_PAIRS)]
    return Table("Supervision", ("kind", *split.names), rows, numbers=range(0))


def run_notes(results: Collection[Result]) -> list[str]:
    """Return the notes on results: models whose run was not finished, thresholds chosen for other
    weights, and commits that do not state the exact code.
    """
    notes = []
    for result in results:
        steps = result.record.get("steps")
        planned = result.record.get("steps_planned")
        if (steps or 0) < (planned or 0):
            notes.append(f"{result.label} ran {steps} of {planned} steps.")
        for entry in result.record["benchmarks"]:
            weights = (entry.get("calibration") or {}).get("weights_sha256")
            if weights not in (None, result.record.get("weights_sha256")):
                notes.append(
                    f"{result.label}: the threshold of {entry['set']} was calibrated with other "
                    "weights."
                )
    for commit in sorted({result.commit for result in results}):
        if commit == "unknown" or commit.endswith(CHANGED):
            notes.append(f"Commit {commit}: the exact code is not recorded.")
    return notes


def _entry_settings(entry: Settings, metric: str) -> Fields:
    """Return the settings of one entry of a record; a calibrated threshold is not among them, its
    calibration is.
    """
    settings = {f"protocol.{key}": value for key, value in entry["protocol"].items()}
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


def _requested_images(result: Result) -> Fields:
    """Return the split and the limit that the configuration requests."""
    evaluation = result.record["config"].get("evaluation", {})
    return {f"evaluation.{key}": evaluation.get(key) or "the default" for key in ("split", "limit")}


def _requested_data(result: Result) -> Fields:
    """Return the keys that must lead to the same training data; of a path, its last part."""
    data = result.record["config"].get("data", {})
    parts = [{key: data.get(key) for key in TRAINING_DATA}, *data.get("mixture", ())]
    return {"data": [last_parts(part, "root", "manifest", "include") for part in parts]}


def _requested_start(result: Result) -> Fields:
    """Return the keys that must lead to the same first weights: start, architecture and init."""
    config = result.record["config"]
    image = config.get("image", {})
    return {"start": config.get("start"), **{key: image.get(key) for key in STARTING_WEIGHTS}}


def starting_weights(result: Result) -> dict[str, str]:
    """Return the weights that the image tower of a run started from, and those of its text tower if
    ``start`` takes that alone, with the first digits of their hash.
    """
    start = str(result.record["config"].get("start"))
    used = {}
    for tower in dict.fromkeys(("image", read_start(start).tower or "image")):
        init = result.record[f"{tower}_init"]
        digest = str(init.get("sha256") or "")[:8]
        key = f"weights used for {tower}.init={init['requested']}"
        used[key] = f"{init['resolved']} {digest}".strip()
    return used


def _split(results: Iterable[Result], settings: Callable[[Result], Settings]) -> Split:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps(settings(result), sort_keys=True), []).append(result)
    return Split(list(groups.values()), [settings(group[0]) for group in groups.values()])
