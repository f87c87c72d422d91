"""``report``: one self-contained HTML page of results, from the template ``report.html``.

The best and worst images were kept when the set was scored, so neither the model nor the data is
needed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gestalt.config.schema import ConfigError
from gestalt.evaluation.pictures import segmentation_panels
from gestalt.results.comparability import measurement
from gestalt.results.compare import METHOD, compare, differing
from gestalt.results.page import HERE, address, data_address, render
from gestalt.results.plots import Point, drawn, lines
from gestalt.results.result import Result, companions, headlines
from gestalt.results.text import NONE, OVER_IMAGES, images_text, interval_text
from gestalt.support.files import replacing
from gestalt.training.board import logged_key

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the head of every report; a file with it may be overwritten."""

CURVE_POINTS = 400
"""Largest number of points of a training curve."""

WORST_PAIRS = 12
"""Number of listed confusions."""


def write_report(results: Sequence[Result], output: Path) -> Path:
    """Write the page atomically; an older report is overwritten.

    Raises:
        ConfigError: a path that cannot hold the page, or a file that is not a report; or a result's
            arrays do not belong to its record.
    """
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: folder {output.parent} not found")
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise ConfigError(
            f"--output {output}: the report is an HTML page; name a file that ends in .html, such "
            "as report.html"
        )
    if output.exists() and SUBTITLE not in output.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(f"--output {output}: exists and is not a report; name another file")
    text = report(results)
    with replacing(output) as partial:
        partial.write_text(text, encoding="utf-8")
    return output


def report(results: Sequence[Result]) -> str:
    """Return the page."""
    return render(
        HERE / "report.html",
        title=results[0].label
        if len(results) == 1
        else f"{results[0].label} and {len(results) - 1} more",
        subtitle=SUBTITLE,
        results=results,
        headlines=headlines,
        companions=companions,
        interval_text=interval_text,
        over_images=OVER_IMAGES,
        comparison=compare(results, allow_mixed=True) if len(results) > 1 else None,
        method=METHOD,
        differing=differing,
        resolutions=_resolutions(results),
        curves=_curves,
        metrics_of=_metrics_of,
        images_text=images_text,
        zip=zip,
        confusions=_confusions,
        extremes=_extremes,
        none_text=NONE,
    )


def _resolutions(results: Sequence[Result]) -> dict[str, str]:
    """Draw a chart for each metric and weights that were scored at several input sizes, all else
    equal.  Returns addresses by title.
    """
    families: dict[tuple[str, str, str], dict[float, Point]] = {}
    for result in results:
        weights = str(result.record.get("weights_sha256"))
        for metric in headlines([result]):
            settings = measurement(result, metric)
            size = settings.pop("protocol.input_size", None)
            settings.pop("protocol.digest", None)
            if size is not None:
                family = metric, weights, json.dumps(settings, sort_keys=True)
                point = Point(float(size), result.value(metric) or 0.0, result.interval(metric))
                families.setdefault(family, {})[size] = point
    charts = {}
    for (metric, weights, _), by_size in families.items():
        if len(by_size) > 1:
            title = f"{metric} over input size, weights {weights[:8]}"
            charts[title] = _chart(
                metric, sorted(by_size.values()), title=title, x_label="input size, pixels"
            )
    return charts


def _chart(name: str, points: Sequence[Point], **options: Any) -> str:
    """Return the address of a line plot."""
    return address(drawn(lines({name: points}, y_label=name, **options), "svg"), "image/svg+xml")


def _curves(result: Result) -> dict[str, str]:
    """Draw loss and headline metrics over steps if the run's events are kept; an evaluation has
    none.  Returns addresses by title.
    """
    if result.is_evaluation or not list(result.run.glob("events.out.tfevents*")):
        return {}
    scalars = _scalars(result.run)
    charts = {}
    for tag in ("train/loss", *headlines([result])):
        if len(scalars.get(tag, [])) > 1:
            title = f"{tag} over steps"
            charts[title] = _chart(
                tag, scalars[tag], title=title, x_label="step", from_zero=tag != "train/loss"
            )
    return charts


def _scalars(run: Path) -> dict[str, list[Point]]:
    """Read TensorBoard's events by their keys: the last value of each step, thinned evenly."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(run), size_guidance={SCALARS: 0})
    events.Reload()
    scalars = {}
    for tag in events.Tags()["scalars"]:
        last = {event.step: event.value for event in events.Scalars(tag)}
        points = [Point(float(step), float(value)) for step, value in sorted(last.items())]
        scalars[logged_key(tag)] = points[:: max(1, len(points) // CURVE_POINTS)]
    return scalars


def _metrics_of(result: Result, entry: Mapping[str, Any]) -> list[str]:
    """Return the keys of an entry's metrics, without the baselines of others."""
    keys = [key for key in entry.get("metric_keys", []) if result.value(key) is not None]
    baselines = {
        f"{key}_{name}" for key in keys for name in companions(result.record["metrics"], key)
    }
    return [key for key in keys if key not in baselines]


def _confusions(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Return the pairs of classes with the most confused pixels, and the matrix of shares of each
    true class.

    Classes without pixels are left out of the matrix.

    Args:
        confusion: (C, C), or (C, C + 1) with a last column of the pixels without a predicted class.
        names: of the classes.
    """
    more = confusion.shape[1] - len(names)
    confusion, names = np.pad(confusion, ((0, more), (0, 0))), [*names, *("no class",) * more]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    wrong = confusion - np.diag(confusion.diagonal())
    pairs = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]:
        truth, predicted = divmod(int(place), len(names))
        pixels, part = wrong[truth, predicted], share[truth, predicted]
        if pixels:
            pairs.append([names[truth], names[predicted], f"{pixels:,}", f"{100 * part:.1f} %"])
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    return {
        "pairs": pairs,
        "names": [names[index] for index in shown],
        "shares": share[np.ix_(shown, shown)].tolist(),
    }


def _extremes(result: Result, entry: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Draw the best and the worst images, each with its prediction and its truth; empty if they
    were not kept.
    """
    predictions = result.extremes(entry["set"])
    best, worst = entry.get("best_images", []), entry.get("worst_images", [])
    if predictions is None or len(predictions.images) != len(best) + len(worst):
        return {}
    names, background = predictions.names, predictions.background
    cards = []
    for image, listed in zip(predictions.images, [*best, *worst], strict=True):
        panels = segmentation_panels(image, names=names, background=background)
        source = data_address(panels, "jpeg", quality=85)
        cards.append({"title": image.title, "iou": listed["iou"], "source": source})
    return {"best": cards[: len(best)], "worst": cards[len(best) :]}
