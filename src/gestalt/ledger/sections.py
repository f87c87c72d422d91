"""The sections of a report, one for each measure.  C classes, H W pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from gestalt.evaluation.confusion import iou_of, pixel_counts
from gestalt.evaluation.pictures import class_colours, overlay
from gestalt.evaluation.predictions import Kept, Predictions
from gestalt.ledger import html
from gestalt.ledger.charts import confusion_chart
from gestalt.ledger.result import Result, companions
from gestalt.ledger.text import NONE, images_text, interval_text

WORST_PAIRS = 12
"""Number of listed confusions."""

IN_PICTURE = 8
"""Largest number of classes named below a picture."""


def segmentation(result: Result, entry: dict[str, Any]) -> str:
    """Show mIoU with its baselines, the classes, the confusions, the best and the worst images."""
    name = entry["set"]
    classes = [(class_name, iou) for class_name, iou in zip(entry["names"], entry["iou"], strict=True) if iou is not None]
    absent = [class_name for class_name, iou in zip(entry["names"], entry["iou"], strict=True) if iou is None]
    falling = sorted(classes, key=lambda pair: -pair[1])
    note = f" In neither truth nor prediction, and so left out: {', '.join(absent)}." if absent else ""
    parts = [numbers(result, entry), html.text("h4", f"IoU of each class, {len(classes)}"), html.bars(falling)]
    parts.append(html.text("p", f"The mean of these is the mIoU; 0 is marked.{note}", class_="quiet"))
    confusion = result.arrays(name).get("confusion")
    if confusion is not None:
        parts.append(confusions(confusion, entry["names"]))
    kept = result.extremes(name)
    return "".join([*parts, *(extremes(entry, kept) if kept is not None else [])])


def confusions(confusion: NDArray[np.int64], names: Sequence[str]) -> str:
    """Show the confusions with the most pixels, and the whole matrix; a further column is of pixels without a predicted class."""
    more = confusion.shape[1] - len(names)
    confusion, names = np.pad(confusion, ((0, more), (0, 0))), [*names, *("no class",) * more]
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]
    truth = np.maximum(confusion.sum(axis=1), 1)
    pairs = [(*divmod(int(place), len(names)), int(wrong.flat[place])) for place in order if wrong.flat[place] > 0]
    rows = [[names[row], names[column], f"{pixels:,}", f"{100 * pixels / truth[row]:.1f} %"] for row, column, pixels in pairs]
    heads = ("truth", "taken for", "pixels", "of that truth")
    listed = html.table(heads, rows, caption=f"The {len(rows)} largest confusions, by pixels", numbers=(2, 3))
    chart = confusion_chart(confusion, names, title="Confusion matrix: shares of each true class by predicted class")
    legend = "Rows: the truth; columns: the prediction. A cell is a share of its row, stronger for more (square root)."
    shown = html.element("figure", html.element("div", chart, class_="wide"), html.text("figcaption", legend))
    return html.text("h4", "Largest confusions") + html.element("div", listed, shown, class_="two")


def extremes(entry: dict[str, Any], kept: Predictions) -> list[str]:
    """Show the best and the worst images, each with its prediction and its truth."""
    listed = [(end, image) for end in ("best", "worst") for image in entry.get(f"{end}_images", [])]
    if len(listed) != len(kept.images):
        return []
    colours = class_colours(len(kept.names), background=kept.background)
    cards: dict[str, list[str]] = {"best": [], "worst": []}
    for (end, image), kept_image in zip(listed, kept.images, strict=True):
        cards[end].append(_card(kept_image, iou=image["iou"], names=kept.names, colours=colours))
    return [
        html.text("h4", f"{end.capitalize()} images, by the mean IoU of the classes in each")
        + html.element("div", *figures, class_="images")
        for end, figures in cards.items()
        if figures
    ]


def _card(kept: Kept, *, iou: float, names: Sequence[str], colours: NDArray[np.uint8]) -> str:
    """Show image, prediction, truth, and their classes with the IoU."""
    pixels = torch.from_numpy(kept.image)
    prediction, truth = torch.from_numpy(kept.prediction), torch.from_numpy(kept.label)
    pictures = {
        "image": Image.fromarray(kept.image.transpose(1, 2, 0)),
        "prediction": overlay(pixels, prediction, colours=colours, alpha=0.7, void=True),
        "truth": overlay(pixels, truth, colours=colours, alpha=0.7, void=True),
    }
    shown = [html.picture(picture, alt=f"{kept.title}: {name}") for name, picture in pictures.items()]
    counts = pixel_counts(prediction, truth, classes=len(names)).numpy()
    ious = iou_of(counts)
    order = [index for index in np.argsort(-(counts[1] + counts[2]), kind="stable").tolist() if not np.isnan(ious[index])]
    keys = [_key(names[index], ious[index], colours[index]) for index in order[:IN_PICTURE]]
    unnamed = f"; not named: {len(order) - IN_PICTURE} more" if len(order) > IN_PICTURE else ""
    small = " small" if max(kept.label.shape) <= 160 else ""
    caption = html.text("figcaption", f"{kept.title}: {iou:.3f}. Image, prediction, truth{unnamed}")
    return html.element("figure", html.element("div", *shown, class_=f"triple{small}"), html.element("ul", *keys, class_="keys"), caption)


def _key(name: str, iou: float, colour: NDArray[np.uint8]) -> str:
    red, green, blue = colour.tolist()
    return html.element("li", f'<b style="background:rgb({red},{green},{blue})"></b>', html.text("span", f"{name} {iou:.2f}"))


def robustness(result: Result, entry: dict[str, Any]) -> str:
    """Show the accuracy of each class at each place, and its loss away from the usual place."""
    names, right, total = entry["names"], entry["right"], entry["total"]
    rows = []
    for index, name in enumerate(names):
        shares = [hits / count if count else None for hits, count in zip(right[index], total[index], strict=True)]
        percents = [NONE if share is None else f"{100 * share:.1f} %" for share in shares]
        cells = [f"{percent} ({hits} of {count})" for percent, hits, count in zip(percents, right[index], total[index], strict=True)]
        if len(names) == 2:
            kinds = ("usual" if place == index else "other" for place in range(2))
            points = [_points(result, f"{entry['set']}/accuracy/{name}_{kind}_place") for kind in kinds]
            cells = [cell + end for cell, end in zip(cells, points, strict=True)]
        others = [share for place, share in enumerate(shares) if place != index and share is not None]
        usual = shares[index]
        delta = NONE if usual is None or not others else f"{100 * (usual - sum(others) / len(others)):+.1f}"
        rows.append([name, *cells, delta + _points(result, f"{entry['set']}/delta/{name}")])
    heads = ["class", *(f"where {name} usually is" for name in names), "delta, points"]
    caption = "Accuracy of each class at each place; delta: at its usual place minus elsewhere; in brackets 95 % over images"
    return numbers(result, entry) + html.table(heads, rows, caption=caption, numbers=range(1, len(heads)))


def _points(result: Result, metric: str) -> str:
    """Return a metric's interval in percent, in brackets; empty without one."""
    interval = result.interval(metric)
    return "" if interval is None else f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def numbers(result: Result, entry: dict[str, Any]) -> str:
    """Show the metrics of an entry, each with its baselines."""
    keys = [key for key in entry.get("metric_keys", []) if result.value(key) is not None]
    baselines = {key: companions(result.record["metrics"], key) for key in keys}
    baseline_keys = {f"{key}_{name}" for key, names in baselines.items() for name in names}
    metrics = [key for key in keys if key not in baseline_keys]
    names = list(dict.fromkeys(name for key in metrics for name in baselines[key]))
    rows = []
    for key in metrics:
        value = result.value(key)
        cells = [f"{baselines[key][name]:.3f}" if name in baselines[key] else NONE for name in names]
        rows.append([key.partition("/")[2].replace("_", " "), f"{value:.3f}", interval_text(result.interval(key), sign=""), *cells])
    heads = ("metric", "model", "95 % over images", *(name.replace("_", " ") for name in names))
    protocol = entry.get("protocol", {})
    caption = f"{entry.get('measure', '')} by {protocol.get('name', 'a protocol that was not recorded')}, {_counted(entry)}"
    return html.table(heads, rows, caption=caption, numbers=range(1, len(heads)))


def _counted(entry: dict[str, Any]) -> str:
    """Return the number of scored images, and the other counts of an entry, as text."""
    parts = [images_text(entry)]
    calibration = entry.get("calibration")
    parts += [f"threshold calibrated on {images_text(calibration)} of {calibration['split']}"] if calibration else []
    parts += [f"{entry[key]:,} {key}" for key in ("objects", "groups", "captions") if key in entry]
    return ", ".join([*parts, *([f"{entry['ignored_pixels']:,} ignored pixels"] if "ignored_pixels" in entry else [])])


SECTIONS: dict[str, Callable[[Result, dict[str, Any]], str]] = {"segmentation": segmentation, "robustness": robustness}
"""Section by measure; the others show their numbers alone."""
