"""The section of one result in a report, by ``blocks.html``: its origin, curves of its training,
and of each benchmark the metrics, classes, confusions, best and worst images, and the protocol.

The best and worst images were kept when the set was scored, so neither the model nor the data is
needed.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from gestalt.measures.evaluation.pictures import segmentation_panels
from gestalt.results.plots import Point, line_chart
from gestalt.results.result import Result, companions, headlines
from gestalt.results.templates import BLOCKS, image_url
from gestalt.results.text import NONE, Table, baselines_text, images_text, interval_text
from gestalt.support.arrays import Ints
from gestalt.support.files import Fields
from gestalt.training.tags import logged_key

CURVE_POINTS = 400
"""Largest number of points of a training curve."""

WORST_PAIRS = 12
"""Number of listed confusions."""

MAX_NAMED = 60
"""Largest number of classes whose names the matrix of confusions shows."""

FILES = (
    "format",
    "config_hash",
    "checkpoint",
    "checkpoint_sha256",
    "run",
    "weights_sha256",
    "predictions",
    "arrays",
)
"""Fields of a record on what was scored, and the files beside it."""

SCORED = ("label_set", "vocabulary", "templates", "calibration")
"""Fields of an entry on how its set was scored, beside the protocol."""

HEADS = ("value", "95 % over images", "baselines")
"""Heads of ``numbers``."""


def render_section(result: Result, number: int) -> Markup:
    """Return the section of a result as HTML; ``number`` is that of its anchor."""
    parts = [BLOCKS.training(charts)] if (charts := curves(result)) else []
    for entry in result.record["benchmarks"]:
        parts += _entry(result, entry)
    parts.append(BLOCKS.definitions("Provenance", _provenance(result)))
    return Markup(BLOCKS.section(number, result.label, _origin(result), parts))


def _provenance(result: Result) -> list[tuple[str, str]]:
    """Return where a result comes from, as text."""
    record, source = result.record, result.record["provenance"]
    return _texts(
        {"file": str(result.path)},
        {key: record.get(key) for key in FILES},
        {"overrides": " ".join(record["overrides"]) or NONE, "ranks": record.get("ranks")},
        {key: source.get(key) for key in ("commit", "dirty", "python")},
        source["packages"],
        source["machine"],
    )


def _texts(*parts: Fields) -> list[tuple[str, str]]:
    """Return keys with their values as text, without those that are missing."""
    return [
        (key, value if isinstance(value, str) else json.dumps(value, sort_keys=True))
        for values in parts
        for key, value in values.items()
        if value is not None
    ]


def _origin(result: Result) -> str:
    """Return a paragraph on what made a result."""
    record, commit = result.record, result.commit[:20]
    if "predictions" in record:
        notes = [f"{key}: {value}" for key, value in record["predictions"]["notes"].items()]
        return (
            f"Label maps of {record['name']}. Predicted by another system and counted here, commit "
            f"{commit}. Their maker states {'; '.join(notes) or 'nothing'}."
        )
    run = f"{record['experiment']} at scale {record.get('scale')}, seed {record.get('seed')}"
    steps, planned = record.get("steps"), record.get("steps_planned")
    if steps is not None:
        run += f", {steps} steps" + ("" if planned in (None, steps) else f" of {planned}")
    init, machine = record["image_init"], record["provenance"]["machine"]
    return (
        f"{run}. Image tower from {init['resolved']} (requested: {init['requested']}), commit "
        f"{commit}, on {machine.get('device') or machine['accelerator']}."
    )


def numbers(result: Result, metric: str) -> list[str]:
    """Return a metric's value, its interval, and its baselines."""
    return [
        f"{result.value(metric):.3f}",
        interval_text(result.interval(metric), sign=""),
        baselines_text(companions(result.record["metrics"], metric)) or NONE,
    ]


def _entry(result: Result, entry: Fields) -> Iterator[Markup]:
    """Yield the parts of a section on an entry of the record."""
    name = entry["set"]
    measure = entry.get("measure") or entry["left_out"]
    yield BLOCKS.benchmark(f"{name}: {measure}")
    if "left_out" in entry:
        yield BLOCKS.left_out(entry["why"])
        return
    protocol = entry["protocol"]
    scored = [images_text(entry)]
    if calibration := entry.get("calibration"):
        on = f"{images_text(calibration)} of {calibration['split']}"
        scored.append(f"threshold calibrated on {on}")
    for key in ("objects", "groups", "captions", "ignored_pixels"):
        if key in entry:
            scored.append(f"{entry[key]:,} {key.replace('_', ' ')}")
    rows = [
        [metric.partition("/")[2].replace("_", " "), *numbers(result, metric)]
        for metric in metrics_of(result, entry)
    ]
    title = f"{measure} by {protocol['name']}, {', '.join(scored)}"
    yield BLOCKS.table(Table(title, ["metric", *HEADS], rows, range(1, 3)))
    if measure == "segmentation":
        yield from _segmentation(result, entry)
    elif measure == "robustness":
        yield BLOCKS.table(_places(result, entry))
    more = {key: entry.get(key) for key in SCORED}
    yield BLOCKS.definitions(f"Protocol of {measure}", _texts(protocol, more))


def _segmentation(result: Result, entry: Fields) -> Iterator[Markup]:
    """Yield the IoU of each class, the confusions, and the best and worst images."""
    ious = dict(zip(entry["names"], entry["iou"], strict=True))
    known = [pair for pair in ious.items() if pair[1] is not None]
    absent = [name for name, iou in ious.items() if iou is None]
    yield BLOCKS.classes(sorted(known, key=lambda pair: -pair[1]), absent)
    arrays = result.arrays(entry["set"])
    if "confusion" in arrays:
        largest, shares = confusions(arrays["confusion"], entry["names"])
        yield BLOCKS.confusions(largest, shares, named=len(shares) <= MAX_NAMED)
    for end, images in extremes(result, entry).items():
        if images:
            yield BLOCKS.images(end, images)


def metrics_of(result: Result, entry: Fields) -> list[str]:
    """Return the keys of an entry's metrics, without the baselines of others."""
    keys = entry["metric_keys"]
    baselines = {
        f"{key}_{name}" for key in keys for name in companions(result.record["metrics"], key)
    }
    return [key for key in keys if key not in baselines]


def confusions(confusion: Ints, names: Sequence[str]) -> tuple[Table, dict[str, dict[str, float]]]:
    """Return the pairs of classes with the most confused pixels; and for each true class the share
    of its pixels that was taken for each class.

    Classes without pixels are left out.

    Args:
        confusion: (C, C), or (C, C + 1) with a last column of the pixels without a predicted class.
        names: of the classes.
    """
    more = confusion.shape[1] - len(names)
    confusion = np.pad(confusion, ((0, more), (0, 0)))
    names = [*names, *("no class",) * more]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]
    largest = [
        [names[row], names[column], f"{wrong[row, column]:,}", f"{100 * share[row, column]:.1f} %"]
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    title = f"The {len(largest)} largest confusions, by pixels"
    heads = ["truth", "taken for", "pixels", "of that truth"]
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    shares = {names[row]: {names[column]: share[row, column] for column in shown} for row in shown}
    return Table(title, heads, largest, range(2, 4)), shares


def extremes(result: Result, entry: Fields) -> dict[str, list[tuple[str, float, Markup]]]:
    """Draw the best and the worst images, each with its prediction and its truth.  Returns title,
    IoU and address of each; empty if they were not kept.
    """
    predictions = result.extremes(entry["set"])
    best = entry.get("best_images", [])
    listed = best + entry.get("worst_images", [])
    if predictions is None or len(predictions.images) != len(listed):
        return {}
    drawn = []
    for image, facts in zip(predictions.images, listed, strict=True):
        panels = segmentation_panels(image, predictions.names, predictions.background)
        drawn.append((image.title, facts["iou"], image_url(panels, "jpeg", quality=85)))
    return {"Best": drawn[: len(best)], "Worst": drawn[len(best) :]}


def _places(result: Result, entry: Fields) -> Table:
    """Return the accuracy of each class at the usual place of each."""
    names = entry["names"]
    rows = []
    for usual, name in enumerate(names):
        row = [name]
        counts = zip(entry["right"][usual], entry["total"][usual], strict=False)
        for place, (right, total) in enumerate(counts):
            kind = "usual" if place == usual else "other"
            accuracy = f"{entry['set']}/accuracy/{name}_{kind}_place"
            share = f"{100 * right / total:.1f} %" if total else NONE
            bounds = _points(result, accuracy) if len(names) == 2 else ""
            row.append(f"{share} ({right} of {total}){bounds}")
        delta = f"{entry['set']}/delta/{name}"
        value = result.value(delta)
        row.append(NONE if value is None else f"{100 * value:+.1f}{_points(result, delta)}")
        rows.append(row)
    title = (
        "Accuracy of each class at each place; delta: at its usual place minus elsewhere; in "
        "brackets 95 % over images"
    )
    heads = [f"where {name} usually is" for name in names]
    return Table(title, ["class", *heads, "delta, points"], rows)


def _points(result: Result, metric: str) -> str:
    """Return a metric's interval in percentage points; empty if it has none."""
    interval = result.interval(metric)
    return f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else ""


def curves(result: Result) -> dict[str, Markup]:
    """Draw loss and headline metrics over steps if the run's events are kept; an evaluation has
    none.  Returns addresses by title.
    """
    scalars = {} if result.is_evaluation else read_scalars(result.run)
    charts = {}
    for tag in ("train/loss", *headlines([result])):
        if len(scalars.get(tag, [])) > 1:
            title = f"{tag} over steps"
            charts[title] = line_chart(
                tag, scalars[tag], title=title, x_label="step", from_zero=tag != "train/loss"
            )
    return charts


def read_scalars(run: Path) -> dict[str, list[Point]]:
    """Read TensorBoard's events by their keys: the last value of each step, thinned evenly.

    TensorBoard's own reader computes every checksum in Python, a second for the pictures of a small
    run.  A record is its length in eight bytes, a checksum of four, the event, and a checksum of
    four; the last may be cut off.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    last: dict[str, dict[int, float]] = defaultdict(dict)
    for file in filter(Path.is_file, sorted(run.glob("events.out.tfevents*"))):
        content = file.read_bytes()
        start = 0
        while (begin := start + 12) <= len(content):
            end = begin + int.from_bytes(content[start : start + 8], "little")
            try:
                event = Event.FromString(content[begin:end]) if end < len(content) else Event()
            except DecodeError:  # damaged from here on
                break
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    last[logged_key(value.tag)][event.step] = value.simple_value
            start = end + 4
    scalars = {}
    for key, values in last.items():
        points = [Point(float(step), value) for step, value in sorted(values.items())]
        scalars[key] = points[:: max(1, len(points) // CURVE_POINTS)]
    return scalars
