"""``report``: one self-contained HTML page of results, from the template ``report.html``.

The best and worst images were kept when the set was scored, so neither the model nor the data is needed.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gestalt.callbacks.board import logged_key
from gestalt.config.schema import ConfigError
from gestalt.evaluation.confusion import iou_of, pixel_counts
from gestalt.evaluation.pictures import class_colours, overlay
from gestalt.evaluation.predictions import Kept, Predictions
from gestalt.ledger.comparability import measurement
from gestalt.ledger.compare import METHOD, Comparison, compare, differing, heads_and_rows
from gestalt.ledger.page import HERE, address, render
from gestalt.ledger.plots import Point, lines, svg
from gestalt.ledger.result import Result, companions, headlines
from gestalt.ledger.text import NONE, OVER_IMAGES, images_text, interval_text
from gestalt.support.files import replacing

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the head of every report; a file with it may be overwritten."""

CURVE_POINTS = 400
"""Largest number of points of a training curve."""

WORST_PAIRS = 12
"""Number of listed confusions."""

IN_PICTURE = 8
"""Largest number of classes named below a picture."""

Table = tuple[list[str], list[list[str]]]
"""Heads and rows."""


def check_output(output: Path) -> None:
    """Refuse a path that cannot hold the page, or a file that is not a report.

    Raises:
        ConfigError: names the path and the fix.
    """
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: folder {output.parent} not found")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ConfigError(f"--output {output}: the report is an HTML page; name a file that ends in .html, such as report.html")
    if output.exists() and SUBTITLE not in output.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--output {output}: exists and is not a report; name another file")


def write_report(results: Sequence[Result], output: Path) -> Path:
    """Write the page atomically; an older report is overwritten.

    Raises:
        ConfigError: as ``check_output``; or a result's arrays do not belong to its record.
    """
    check_output(output)
    text = report(results)
    with replacing(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return output


def report(results: Sequence[Result]) -> str:
    """Return the page."""
    return render(
        HERE / "report.html",
        title=results[0].label if len(results) == 1 else f"{results[0].label} and {len(results) - 1} more",
        subtitle=SUBTITLE,
        results=results,
        headlines=headlines,
        companions=companions,
        interval_text=interval_text,
        over_images=OVER_IMAGES,
        comparison=_comparison(results) if len(results) > 1 else None,
        resolutions=_resolutions(results),
        curves=_curves,
        metrics_of=_metrics_of,
        images_text=images_text,
        classes=_classes,
        confusions=_confusions,
        extremes=_extremes,
        places=_places,
        none_text=NONE,
    )


def _comparison(results: Sequence[Result]) -> dict[str, Any]:
    """Make a table for each metric that several results share, with differences to the first of them, and the notes."""
    comparison = compare(results, allow_mixed=True)
    shared: dict[str, Table] = {}
    for column in comparison.columns:
        if len(column.scores) > 1:
            scored = tuple(result for result in results if result.label in column.scores)
            shared[column.title] = heads_and_rows(Comparison(scored, (replace(column, distinction=""),)))
    return {"method": METHOD, "shared": shared, "notes": comparison.notes, "differing": differing(results)}


def _resolutions(results: Sequence[Result]) -> dict[str, str]:
    """Draw a chart for each metric and weights that were scored at several input sizes, all else equal.  Returns addresses by title."""
    families: dict[tuple[str, str, str], dict[float, Point]] = {}
    for result in results:
        for metric in headlines([result]):
            settings = measurement(result, metric)
            size = settings.pop("protocol.input_size", None)
            settings.pop("protocol.digest", None)
            if size is not None:
                family = (metric, str(result.record.get("weights_sha256")), json.dumps(settings, sort_keys=True))
                point = Point(float(size), result.value(metric) or 0.0, result.interval(metric))
                families.setdefault(family, {})[size] = point
    charts = {}
    for (metric, weights, _), points in families.items():
        if len(points) > 1:
            title = f"{metric} over input size, weights {weights[:8]}"
            series = {metric: [points[size] for size in sorted(points)]}
            charts[title] = _chart(lines(series, title=title, x_label="input size, pixels", y_label=metric))
    return charts


def _chart(figure: Any) -> str:
    return address(svg(figure), "image/svg+xml")


def _curves(result: Result) -> dict[str, str]:
    """Draw loss and headline metrics over steps if the run's events are kept; an evaluation has none.  Returns addresses by title."""
    if result.is_evaluation or not list(result.run.glob("events.out.tfevents*")):
        return {}
    scalars = _scalars(result.run)
    charts = {}
    for tag in ("train/loss", *headlines([result])):
        if len(scalars.get(tag, [])) > 1:
            title = f"{tag} over steps"
            series = {tag: scalars[tag]}
            charts[title] = _chart(lines(series, title=title, x_label="step", y_label=tag, from_zero=tag != "train/loss"))
    return charts


def _scalars(run: Path) -> dict[str, list[Point]]:
    """Read TensorBoard's events by their keys: the last value of each step, thinned evenly."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(run), size_guidance={SCALARS: 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        steps = {event.step: Point(float(event.step), float(event.value)) for event in events.Scalars(tag)}
        points = [steps[step] for step in sorted(steps)]
        scalars[logged_key(tag)] = points[:: max(1, len(points) // CURVE_POINTS)]
    return scalars


def _metrics_of(result: Result, entry: Mapping[str, Any]) -> list[str]:
    """Return the keys of an entry's metrics, without the baselines of others."""
    keys = [key for key in entry.get("metric_keys", []) if result.value(key) is not None]
    baselines = {f"{key}_{name}" for key in keys for name in companions(result.record["metrics"], key)}
    return [key for key in keys if key not in baselines]


def _classes(entry: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Return the IoU of each class, highest first; last those that are in neither truth nor prediction, without one."""
    pairs = list(zip(entry["names"], entry["iou"], strict=True))
    return sorted(pairs, key=lambda pair: 1.0 if pair[1] is None else -pair[1])


def _confusions(result: Result, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the confusions with the most pixels, and the matrix of shares of each true class; None if the matrix was not kept.

    A further column is of pixels without a predicted class; classes without pixels are left out of the matrix.
    """
    confusion = result.arrays(entry["set"]).get("confusion")
    return None if confusion is None else confusion_tables(confusion, entry["names"])


def confusion_tables(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Return the listed pairs and the shares of a confusion matrix (C, C) or (C, C + 1), as ``_confusions``."""
    more = confusion.shape[1] - len(names)
    confusion, names = np.pad(confusion, ((0, more), (0, 0))), [*names, *("no class",) * more]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    wrong = confusion - np.diag(confusion.diagonal())
    order = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]]
    pairs = [
        [names[row], names[column], f"{wrong[row, column]:,}", f"{100 * share[row, column]:.1f} %"]
        for row, column in order
        if wrong[row, column] > 0
    ]
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    return {"pairs": pairs, "names": [names[index] for index in shown], "shares": share[np.ix_(shown, shown)].tolist()}


def _extremes(result: Result, entry: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the best and the worst images, each with its prediction and its truth; empty if they were not kept."""
    kept = result.extremes(entry["set"])
    images = iter(kept.images if kept is not None else ())
    listed = {end: entry.get(f"{end}_images", []) for end in ("best", "worst")}
    if kept is None or sum(map(len, listed.values())) != len(kept.images):
        return {}
    return {end: [_card(next(images), kept, iou=image["iou"]) for image in of_end] for end, of_end in listed.items()}


def _card(image: Kept, kept: Predictions, *, iou: float) -> dict[str, Any]:
    """Return image, prediction, truth, and their classes with the IoU, those with the most pixels first."""
    colours = class_colours(len(kept.names), background=kept.background)
    pixels = torch.from_numpy(image.image)
    prediction, truth = torch.from_numpy(image.prediction), torch.from_numpy(image.label)
    counts = pixel_counts(prediction, truth, classes=len(kept.names)).numpy()
    ious = iou_of(counts)
    order = [index for index in np.argsort(-(counts[1] + counts[2]), kind="stable").tolist() if not np.isnan(ious[index])]
    return {
        "title": image.title,
        "iou": iou,
        "small": max(image.label.shape) <= 160,
        "images": {
            "image": _embedded(Image.fromarray(image.image.transpose(1, 2, 0))),
            "prediction": _embedded(overlay(pixels, prediction, colours=colours, alpha=0.7, void=True)),
            "truth": _embedded(overlay(pixels, truth, colours=colours, alpha=0.7, void=True)),
        },
        "classes": [(kept.names[index], float(ious[index]), colours[index].tolist()) for index in order[:IN_PICTURE]],
        "unnamed": len(order[IN_PICTURE:]),
    }


def _embedded(image: Image.Image) -> str:
    """Return the address of an embedded image: PNG up to 160 pixels, else JPEG."""
    out = io.BytesIO()
    kind = "png" if max(image.size) <= 160 else "jpeg"
    image.save(out, format=kind, quality=85)
    return address(out.getvalue(), f"image/{kind}")


def _places(result: Result, entry: Mapping[str, Any]) -> Table:
    """Return the accuracy of each class at each place of a robustness set, and its loss away from the usual place."""
    names = entry["names"]
    rows = []
    for index, name in enumerate(names):
        row = [name]
        for place, (hits, count) in enumerate(zip(entry["right"][index], entry["total"][index], strict=True)):
            share = f"{100 * hits / count:.1f} %" if count else NONE
            metric = f"{entry['set']}/accuracy/{name}_{'usual' if place == index else 'other'}_place"
            row.append(f"{share} ({hits} of {count}){_points(result, metric) if len(names) == 2 else ''}")
        metric = f"{entry['set']}/delta/{name}"
        delta = result.value(metric)
        rows.append([*row, NONE if delta is None else f"{100 * delta:+.1f}{_points(result, metric)}"])
    return ["class", *(f"where {name} usually is" for name in names), "delta, points"], rows


def _points(result: Result, metric: str) -> str:
    """Return a metric's interval in percent, in brackets; empty without one."""
    interval = result.interval(metric)
    return "" if interval is None else f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
