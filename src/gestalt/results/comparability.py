"""Rules of comparability: the settings that must match to put two results into one column.

- In general, protocol, classes, templates and images must match: ``measurement`` returns these
  settings.
- For results of one model, only images and classes must match, because the rows name the settings
  that were varied: ``measured_images``.
- The cells of a grid may differ only in the keys that the grid varies. Code, requested images,
  training data and starting weights must match as well: ``setup_differences``.
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
"""Keys of a benchmark's entry in a results file that describe the benchmark and not the model."""

IMAGES = ("set", "images", "images_in_set", "image_names", "benchmark_hash", "names")
"""Keys of a benchmark's entry that are the same under every protocol."""

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
"""Keys of ``data`` that decide which image-text pairs a run trains on, together with the parts of a
mixture.
"""

PROTOCOL = "protocol.name"

NOT_RECORDED = "not recorded"

MAX_LENGTH = 60
"""Maximum length in characters of a value in a sentence.  ``Split.table`` shows longer values."""


def measurement(result: Result, metric: str) -> Fields:
    """Return the settings that must match to compare two results by a metric, as a flat dictionary.
    The settings of the model are not included.
    """
    return _of_entries(
        result, metric, lambda entry: _entry_settings(entry, metric), identified_by="truth_pixels"
    )


def measured_images(result: Result, metric: str) -> Fields:
    """Return the images and classes that a metric was measured on, as a flat dictionary."""
    return _of_entries(
        result,
        metric,
        lambda entry: {key: entry[key] for key in IMAGES if key in entry},
        identified_by="image_names",
    )


def one_model(results: Iterable[Result]) -> bool:
    """Return True if all results have the same model weights."""
    return len({result.record.get("weights_sha256") or result.path for result in results}) == 1


def _of_entries(
    result: Result, metric: str, settings_of: Callable[[Settings], Fields], *, identified_by: str
) -> Fields:
    """Return settings of each entry of a metric.

    An entry without the key ``identified_by`` does not identify its images, so the requested split
    and limit are added.
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
    """Results, divided into groups with equal settings, in order of first appearance.

    Attributes:
        groups: results that share all settings that must match.
        settings: settings of each group.
    """

    groups: list[list[Result]]
    settings: Sequence[Settings]

    @property
    def names(self) -> list[str]:
        """Names of the groups, from the labels of their first results."""
        return [
            group[0].label + (f" and {len(group) - 1} more" if len(group) > 1 else "")
            for group in self.groups
        ]

    def table(self) -> Table:
        """Return a table of the settings that differ, in order of first appearance, with a column
        for each group.  Without a difference it has no rows.
        """
        keys = dict.fromkeys(key for row in self.settings for key in row)
        rows = [(key, *(str(row.get(key, NOT_RECORDED)) for row in self.settings)) for key in keys]
        differing = tuple(row for row in rows if len(set(row[1:])) > 1)
        return Table("", ("setting", *self.names), differing, numbers=range(0))

    def differences(self) -> list[str]:
        """Return a sentence that names the groups and every setting that differs, with the values
        that are not too long.  The list is empty for a single group.
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
        """Return a distinct title for each group: its protocol if all protocols differ, else its
        name. A single group has an empty title.
        """
        if len(self.groups) < 2:
            return [""] * len(self.groups)
        protocols = [str(row.get(PROTOCOL)) for row in self.settings]
        return protocols if len(set(protocols)) == len(protocols) else self.names


def split_by_measurement(
    results: Iterable[Result], metric: str, *, rows_name_settings: bool = False
) -> Split:
    """Divide the results that have a metric into groups that may be put into one column.

    With ``rows_name_settings``, only images and classes must match.
    """
    measured = [result for result in results if result.value(metric) is not None]
    settings = measured_images if rows_name_settings else measurement
    split = _split(measured, lambda result: settings(result, metric))
    groups = split.groups
    described = [_requested_images(group[0]) | measurement(group[0], metric) for group in groups]
    return Split(groups, described)


def setup_differences(results: Sequence[Result]) -> list[str]:
    """Return a sentence for each difference in the setup of a grid's runs; empty if there is none.

    The settings of the measurement are not included. Commit and requested images must match. Runs
    whose configurations request the same training data or the same pretrained weights must have
    used the same data and weights.
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
    """Return a sentence if the results differ in supervision, or if it is unknown and there are
    several models; otherwise an empty list.
    """
    split = _split(results, lambda result: {key: result.supervision[key] for key in FIELDS})
    unknown = [key for key in FIELDS if any(UNKNOWN in row[key] for row in split.settings)]
    if found := split.differences():
        return [f"The supervision is unequal. {found[0]}."]
    if not unknown or one_model(results):
        return []
    return [f"Supervision may be unequal: {', '.join(unknown)} of all results are unknown."]


def supervision_table(results: Iterable[Result]) -> Table:
    """Return a table of supervision.  Results with equal supervision share a column."""
    split = _split(results, lambda result: result.supervision)
    rows = [(key, *(row.get(key, NONE) for row in split.settings)) for key in (*FIELDS, *OF_PAIRS)]
    return Table("Supervision", ("kind", *split.names), rows, numbers=range(0))


def run_notes(results: Collection[Result]) -> list[str]:
    """Return notes on results: runs that were not finished, thresholds that were calibrated with
    other weights, and commits that do not identify the exact code.
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
    """Return the settings of one entry of a results file.

    If the threshold was calibrated, the settings of the calibration replace the threshold.
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
        # The number of true pixels of each class identifies the images.
        settings["truth_pixels"] = entry["counts"]["model"][rows.index("truth")]
    return settings


def _requested_images(result: Result) -> Fields:
    """Return the split and the limit that the configuration requests."""
    evaluation = result.record["config"].get("evaluation", {})
    return {f"evaluation.{key}": evaluation.get(key) or "the default" for key in ("split", "limit")}


def _requested_data(result: Result) -> Fields:
    """Return the keys that must lead to the same training data.  Paths are cut to their last
    part.
    """
    data = result.record["config"].get("data", {})
    parts = [{key: data.get(key) for key in TRAINING_DATA}, *data.get("mixture", ())]
    return {"data": [last_parts(part, "root", "manifest", "include") for part in parts]}


def _requested_start(result: Result) -> Fields:
    """Return the keys that must lead to the same initial weights: ``start``, the architecture and
    the pretrained weights of the image tower.
    """
    config = result.record["config"]
    image = config.get("image", {})
    return {"start": config.get("start"), **{key: image.get(key) for key in STARTING_WEIGHTS}}


def starting_weights(result: Result) -> dict[str, str]:
    """Return the initial weights of a run's image tower, with the first digits of their hash.

    The weights of the text tower are included if ``start`` provides only the text tower.
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
