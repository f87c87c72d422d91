"""The sections of a report, one a measure.  C classes, H W pixels."""

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
"""Confusions that are listed."""

IN_PICTURE = 8
"""Classes that are named below a picture."""


def segmentation(result: Result, entry: dict[str, Any]) -> str:
    """mIoU and what it stands beside, each class, what is taken for what, the best and the worst images."""
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
    """The confusions with the most pixels, and the whole matrix."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]
    truth = np.maximum(confusion.sum(axis=1), 1)
    pairs = [(*divmod(int(place), len(names)), int(wrong.flat[place])) for place in order if wrong.flat[place] > 0]
    rows = [[names[row], names[column], f"{pixels:,}", f"{100 * pixels / truth[row]:.1f} %"] for row, column, pixels in pairs]
    heads = ("truth", "taken for", "pixels", "of that truth")
    listed = html.table(heads, rows, caption=f"The {len(rows)} largest confusions, by pixels", numbers=(2, 3))
    chart = confusion_chart(confusion, names, title="Confusion matrix: shares of each true class by predicted class")
    said = "Rows: the truth; columns: the prediction. A cell is a share of its row, stronger for more (square root)."
    shown = html.element("figure", html.element("div", chart, class_="wide"), html.text("figcaption", said))
    return html.text("h4", "What is taken for what") + html.element("div", listed, shown, class_="two")


def extremes(entry: dict[str, Any], kept: Predictions) -> list[str]:
    """The best and the worst images, each with its prediction and its truth."""
    listed = [(end, one) for end in ("best", "worst") for one in entry.get(f"{end}_images", [])]
    if len(listed) != len(kept.images):
        return []
    colours = class_colours(len(kept.names), background=kept.background)
    cards: dict[str, list[str]] = {"best": [], "worst": []}
    for (end, said), one in zip(listed, kept.images, strict=True):
        cards[end].append(_card(one, iou=said["iou"], names=kept.names, colours=colours))
    return [
        html.text("h4", f"{end.capitalize()} images, by the mean IoU of the classes in each") + html.element("div", *each, class_="images")
        for end, each in cards.items()
        if each
    ]


def _card(one: Kept, *, iou: float, names: Sequence[str], colours: NDArray[np.uint8]) -> str:
    """Image, prediction, truth, and the classes in them with their IoU."""
    pixels = torch.from_numpy(one.image)
    masks = [torch.from_numpy(mask) for mask in (one.prediction, one.label)]
    painted = [overlay(pixels, mask, colours=colours, alpha=0.7, void=True) for mask in masks]
    images = [Image.fromarray(one.image.transpose(1, 2, 0)), *painted]
    whats = ("image", "prediction", "truth")
    shown = [html.picture(image, alt=f"{one.title}: {what}") for image, what in zip(images, whats, strict=True)]
    counts = pixel_counts(masks[0], masks[1], classes=len(names)).numpy()
    each = iou_of(counts)
    order = [index for index in np.argsort(-(counts[1] + counts[2]), kind="stable").tolist() if not np.isnan(each[index])]
    keys = [_key(names[index], each[index], colours[index]) for index in order[:IN_PICTURE]]
    more = f"; not named: {len(order) - IN_PICTURE} more" if len(order) > IN_PICTURE else ""
    small = " small" if max(one.label.shape) <= 160 else ""
    caption = html.text("figcaption", f"{one.title}: {iou:.3f}. Image, prediction, truth{more}")
    return html.element("figure", html.element("div", *shown, class_=f"triple{small}"), html.element("ul", *keys, class_="keys"), caption)


def _key(name: str, iou: float, colour: NDArray[np.uint8]) -> str:
    red, green, blue = colour.tolist()
    return html.element("li", f'<b style="background:rgb({red},{green},{blue})"></b>', html.text("span", f"{name} {iou:.2f}"))


def robustness(result: Result, entry: dict[str, Any]) -> str:
    """Accuracy of each class at each place, and how much it loses off its usual one."""
    names, right, total = entry["names"], entry["right"], entry["total"]
    rows = []
    for index, name in enumerate(names):
        shares = [hits / count if count else None for hits, count in zip(right[index], total[index], strict=True)]
        said = [NONE if share is None else f"{100 * share:.1f} %" for share in shares]
        cells = [f"{share} ({hits} of {count})" for share, hits, count in zip(said, right[index], total[index], strict=True)]
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
    """A metric's interval in percent, behind its number; nothing where there is none."""
    found = result.contribution(metric)
    ends = None if found is None else found.interval()
    return "" if ends is None else f" [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"


def numbers(result: Result, entry: dict[str, Any]) -> str:
    """The metrics of an entry, each beside what it stands beside."""
    keys = [key for key in entry.get("metric_keys", []) if result.value(key) is not None]
    beside = {key: companions(result.record["metrics"], key) for key in keys}
    plain = [key for key in keys if not any(key == f"{other}_{name}" for other, each in beside.items() for name in each)]
    names = list(dict.fromkeys(name for key in plain for name in beside[key]))
    rows = []
    for key in plain:
        value = result.value(key)
        cells = [f"{beside[key][name]:.3f}" if name in beside[key] else NONE for name in names]
        rows.append([key.partition("/")[2].replace("_", " "), f"{value:.3f}", interval_of(result, key), *cells])
    heads = ("metric", "model", "95 % over images", *(name.replace("_", " ") for name in names))
    protocol = entry.get("protocol", {})
    caption = f"{entry.get('measure', '')} by {protocol.get('name', 'a protocol that was not recorded')}, {_counted(entry)}"
    return html.table(heads, rows, caption=caption, numbers=range(1, len(heads)))


def interval_of(result: Result, metric: str) -> str:
    """By bootstrap over images, where the result kept what each contributed."""
    found = result.contribution(metric)
    return NONE if found is None else interval_text(found.interval(), sign="")


def _counted(entry: dict[str, Any]) -> str:
    """How many images, and what else was counted."""
    parts = [images_text(entry)]
    calibration = entry.get("calibration")
    parts += [f"threshold calibrated on {images_text(calibration)} of {calibration['split']}"] if calibration else []
    parts += [f"{entry[key]:,} {key}" for key in ("objects", "groups", "captions") if key in entry]
    return ", ".join([*parts, *([f"{entry['ignored_pixels']:,} ignored pixels"] if "ignored_pixels" in entry else [])])


SECTIONS: dict[str, Callable[[Result, dict[str, Any]], str]] = {"segmentation": segmentation, "robustness": robustness}
"""By measure; any other has its numbers alone."""
