"""``report``: one HTML page of results that fetches nothing, from the template ``report.html``.

The best and worst images were kept when the set was scored, so neither the model nor the data is
needed.  What does not fit into the page lies in pages beside it.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from gestalt.measures.evaluation.pictures import segmentation_panels
from gestalt.results.ablation_page import page_values
from gestalt.results.comparability import measurement
from gestalt.results.compare import METHOD, compare, differing
from gestalt.results.page import HERE, data_url, image_url, render
from gestalt.results.plots import Point, lines, render_figure
from gestalt.results.reading import GridResults
from gestalt.results.result import Result, companions, headlines
from gestalt.support.arrays import Ints
from gestalt.support.files import write_whole
from gestalt.support.json_files import Fields
from gestalt.support.typed import ConfigError
from gestalt.training.tags import logged_key

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the head of every report; a file with it may be overwritten."""

INSIDE = (8, 4, 2, 1, 0)
"""How many results' sections the page may hold: the first number that fits counts.  Each further
section is a page of its own.
"""

LARGEST = 10_000_000
"""Most characters of the page."""

CURVE_POINTS = 400
"""Largest number of points of a training curve."""

WORST_PAIRS = 12
"""Number of listed confusions."""


def write_report(
    results: Sequence[Result], output: Path, grids: Sequence[GridResults] = ()
) -> list[Path]:
    """Write the page atomically, and before it the pages of the results that do not fit into it, in
    a folder beside it.  An older report is overwritten; its pages that this one lacks are deleted.

    Returns:
        The page, then those beside it.

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
    beside = output.with_name(f"{output.stem}_results")
    pages = [beside / f"result-{number}.html" for number in range(len(results))]
    for path in (output, *pages):
        if path.exists() and not _is_report(path):
            raise ConfigError(f"--output {path}: exists and is not a report; name another file")
    of_grids = [page_values(grid, allow_mixed=True) for grid in grids]
    for inside in INSIDE:
        links = [f"#result-{number}" for number in range(len(results))]
        links[inside:] = [quote(f"{beside.name}/{path.name}") for path in pages[inside:]]
        whole = _page(results, links=links, grids=of_grids)
        if len(whole) <= LARGEST:
            break
    for result, path in zip(results[inside:], pages[inside:], strict=True):
        write_whole(path, _page([result], links=["#result-0"], whole=quote(f"../{output.name}")))
    write_whole(output, whole)
    for path in {*beside.glob("result-*.html")} - {*pages[inside:]}:  # of an earlier report
        if path.stem.removeprefix("result-").isdecimal() and _is_report(path):
            path.unlink()
    return [output, *pages[inside:]]


def _is_report(path: Path) -> bool:
    return SUBTITLE in path.read_text(encoding="utf-8", errors="replace")


def _page(
    results: Sequence[Result],
    links: Sequence[str],
    grids: Sequence[Fields] = (),
    whole: str = "",
) -> str:
    """Return a page.

    Args:
        results: its rows.
        links: addresses of their sections; the page holds those within it.
        grids: the grids that it shows, each as ``page_values``.
        whole: address of the page of all results, from a page beside it.
    """
    drawing = data_url, confusions, curves, extremes
    calls = *drawing, companions, differing, headlines, metrics_of, zip
    # the tables of a grid compare its cells
    compared = len(results) > max([1, *(grid["runs"] for grid in grids)])
    return render(
        HERE / "report.html",
        **{call.__name__: call for call in calls},
        results=results,
        links=links,
        grids=grids,
        whole=whole,
        subtitle=SUBTITLE,
        method=METHOD,
        comparison=compare(results, allow_mixed=True) if compared else None,
        resolutions=_resolutions(results),
    )


def _resolutions(results: Sequence[Result]) -> dict[str, str]:
    """Draw a chart for each metric and weights that were scored at several input sizes, all else
    equal.  Returns addresses by title.
    """
    families: dict[tuple[str, str, str], dict[float, Result]] = defaultdict(dict)
    for result in results:
        for metric in headlines([result]):
            settings = measurement(result, metric) | {"protocol.digest": None}
            size = settings.pop("protocol.input_size", None)
            if size is not None:
                weights = str(result.record.get("weights_sha256"))
                families[metric, weights, json.dumps(settings, sort_keys=True)][size] = result
    charts = {}
    for (metric, weights, _), by_size in families.items():
        if len(by_size) > 1:
            title = f"{metric} over input size, weights {weights[:8]}"
            points = [
                Point(float(size), result.value(metric) or 0.0, result.interval(metric))
                for size, result in sorted(by_size.items())
            ]
            charts[title] = _chart(metric, points, title=title, x_label="input size, pixels")
    return charts


def _chart(name: str, points: Sequence[Point], **options: Any) -> str:
    """Return a line plot as a data URL."""
    return data_url(
        render_figure(lines({name: points}, y_label=name, **options), "svg"), "image/svg+xml"
    )


def curves(result: Result) -> dict[str, str]:
    """Draw loss and headline metrics over steps if the run's events are kept; an evaluation has
    none.  Returns addresses by title.
    """
    scalars = {} if result.is_evaluation else read_scalars(result.run)
    charts = {}
    for tag in ("train/loss", *headlines([result])):
        if len(scalars.get(tag, [])) > 1:
            title = f"{tag} over steps"
            charts[title] = _chart(
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


def metrics_of(result: Result, entry: Mapping[str, Any]) -> list[str]:
    """Return the keys of an entry's metrics, without the baselines of others."""
    keys = [key for key in entry.get("metric_keys", []) if result.value(key) is not None]
    baselines = {
        f"{key}_{name}" for key in keys for name in companions(result.record["metrics"], key)
    }
    return [key for key in keys if key not in baselines]


def confusions(confusion: Ints, names: Sequence[str]) -> Fields:
    """Return the pairs of classes with the most confused pixels, and the matrix of shares of each
    true class.

    Classes without pixels are left out of the matrix.

    Args:
        confusion: (C, C), or (C, C + 1) with a last column of the pixels without a predicted class.
        names: of the classes.
    """
    more = confusion.shape[1] - len(names)
    confusion = np.pad(confusion, ((0, more), (0, 0)))
    names = [*names, *("no class",) * more]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    wrong = confusion - np.diag(confusion.diagonal())
    pairs = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]:
        truth, predicted = divmod(int(place), len(names))
        pixels = wrong[truth, predicted]
        part = share[truth, predicted]
        if pixels:
            pairs.append([names[truth], names[predicted], f"{pixels:,}", f"{100 * part:.1f} %"])
    shown = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    return {
        "pairs": pairs,
        "names": [names[index] for index in shown],
        "shares": share[np.ix_(shown, shown)].tolist(),
    }


def extremes(result: Result, entry: Mapping[str, Any]) -> dict[str, list[Fields]]:
    """Draw the best and the worst images, each with its prediction and its truth; empty if they
    were not kept.
    """
    predictions = result.extremes(entry["set"])
    best = entry.get("best_images", [])
    worst = entry.get("worst_images", [])
    if predictions is None or len(predictions.images) != len(best) + len(worst):
        return {}
    cards = []
    for image, listed in zip(predictions.images, [*best, *worst], strict=True):
        panels = segmentation_panels(image, predictions.names, predictions.background)
        source = image_url(panels, "jpeg", quality=85)
        cards.append({"title": image.title, "iou": listed["iou"], "source": source})
    return {"best": cards[: len(best)], "worst": cards[len(best) :]}
