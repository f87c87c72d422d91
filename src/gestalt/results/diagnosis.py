"""Build the tables of ``diagnose``: results as rows, the share of each cause in the lost mIoU as
columns.  torch is not imported.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import cast

from gestalt.results.causes import (
    AREA_NAMES,
    BAND_NAMES,
    CAUSES,
    COUNT_NAMES,
    Diagnosis,
    diagnose,
)
from gestalt.results.comparability import split_by_measurement
from gestalt.results.compare import select_metrics
from gestalt.results.plots import render_figure, stacked
from gestalt.results.result import Result, measured
from gestalt.results.text import NONE, OVER_IMAGES, Table, interval_text, metric_words
from gestalt.support.typed import ConfigError

SHARES = (
    "The shares of a row add up to 1 - mIoU: each is the mean gain of mIoU from mending the pixels "
    "of a cause, over all orders of mending (Shapley)."
)
METHOD = f"In brackets: 95 % over images. {OVER_IMAGES}"


def tables(
    results: Sequence[Result], *, metrics: Sequence[str] = (), details: bool = False
) -> list[Table]:
    """Return a table for each set, with a row for each result.  ``details`` adds tables for each
    result.

    Raises:
        ConfigError: a metric is not the mIoU of a segmentation set, the results have different
            images or classes, or a result has no rows of wrong pixels.
    """
    shown = []
    for metric in select_metrics(results, metrics) if metrics else _every_miou(results):
        found = {
            result.label: (result, of_result(result, metric))
            for result in results
            if result.value(metric) is not None
        }
        diagnoses = {label: diagnosis for label, (_, diagnosis) in found.items()}
        images = split_by_measurement(results, metric, rows_name_settings=True)
        if len(images.groups) > 1:
            raise ConfigError(
                f"{metric}: {' and '.join(images.names)} are not of the same images and classes; "
                "diagnose them in separate commands, or name another mIoU by --metric"
            )
        settings = [row[0] for row in split_by_measurement(results, metric).table().rows]
        note = (
            f"The results were measured with different settings ({', '.join(settings)}); gestalt "
            "compare --details has the values."
        )
        shown.append(_causes(metric, diagnoses, [SHARES, *([note] if settings else [])]))
        if details:
            for label, (result, diagnosis) in found.items():
                names = result.entry(metric)["names"]
                shown += _details(f"{label}, {metric}", diagnosis, names)
    return shown


def _every_miou(results: Sequence[Result]) -> list[str]:
    """Return the key of the mIoU of each segmentation set that any result has."""
    chosen = dict.fromkeys(
        metric
        for result in results
        for metric in measured([result])
        if metric.endswith("/miou") and result.entry(metric)["measure"] == "segmentation"
    )
    if not chosen:
        raise ConfigError(
            f"{', '.join(result.label for result in results)}: no segmentation set was scored; "
            "name results that have an mIoU"
        )
    return list(chosen)


def picture(shown: Sequence[Table]) -> bytes:
    """Draw the mIoU and the shares of tables as PNG, with a bar for each row."""
    lines = [line for table in shown for line in table.values]
    metrics = {str(line["metric"]) for line in lines}
    several = len(metrics) > 1
    rows: dict[str, dict[str, float]] = {}
    for line in lines:
        row = f"{line['run']}, {line['metric']}" if several else str(line["run"])
        rows.setdefault(row, {})[str(line["cause"] or "mIoU")] = cast("float", line["mean"])
    title = f"{'mIoU' if several else metric_words(*metrics)}, and what each cause loses of it"
    return render_figure(stacked(rows, heads=("mIoU", *CAUSES), title=title))


@lru_cache(maxsize=32)  # a report shows the same result alone and in comparisons
def of_result(result: Result, metric: str) -> Diagnosis:
    """Analyse where a result loses the mIoU of a metric.

    Raises:
        ConfigError: see ``tables``; or the rows do not belong to the results file.
    """
    name, _, kind = metric.partition("/")
    entry = result.entry(metric)
    if kind != "miou" or entry["measure"] != "segmentation":
        raise ConfigError(
            f"--metric {metric}: not the mIoU of a segmentation set; name one such as scenes/miou"
        )
    rows = result.arrays(name).get("rows")
    if rows is None:
        raise ConfigError(
            f"{result.path}: the confusions of each image of {name} were not kept; score it again: "
            f"gestalt eval {result.run}, or gestalt score for label maps"
        )
    diagnosis = diagnose(
        rows,
        images=entry["images"],
        classes=len(entry["names"]),
        background=entry.get("constant_class"),
    )
    if abs(diagnosis.miou - (result.value(metric) or 0.0)) > 1e-6:
        raise ConfigError(
            f"{result.path}: the rows of {name} give an mIoU of {diagnosis.miou:.6f}, but the "
            f"record has {result.value(metric):.6f}; evaluate again"
        )
    return diagnosis


def _causes(metric: str, diagnoses: dict[str, Diagnosis], notes: list[str]) -> Table:
    """Return a table of the shares of each cause, for all results on one set."""
    shown = sorted({cause for one in diagnoses.values() for cause in one.causes})
    rows = []
    values: list[dict[str, object]] = []
    for label, one in diagnoses.items():
        row = [label, f"{one.miou:.3f}"]
        named = {"run": label, "metric": metric}
        values.append(named | {"cause": None, "mean": one.miou})  # the mIoU itself
        for cause in shown:
            if cause not in one.causes:
                row.append(NONE)
                continue
            number = one.causes.index(cause)
            share, interval = float(one.shares[number]), one.interval(number)
            row.append(f"{share:.3f} {interval_text(interval, sign='')}".removesuffix(f" {NONE}"))
            values.append(
                named
                | {
                    "cause": CAUSES[cause],
                    "mean": share,
                    "low": interval and interval.low,
                    "high": interval and interval.high,
                    "miou_mended": float(one.mended[number]),
                }
            )
        rows.append(row)
        if one.reason:
            notes.append(f"{label}: no intervals, {one.reason}.")
    heads = ["run", metric, *(CAUSES[cause] for cause in shown)]
    return Table(f"{metric}: mIoU lost to each cause", heads, rows, notes=notes, values=values)


def _details(title: str, one: Diagnosis, names: Sequence[str]) -> Iterator[Table]:
    """Yield the tables of a result: causes, classes, numbers of classes, areas."""
    causes = [CAUSES[cause] for cause in one.causes]
    rows = [["mIoU in the band", NONE, *map(_number, one.bands)]]
    rows += [
        [f"pixels: {cause}", _number(mended), *map(_number, shares)]
        for cause, mended, shares in zip(causes, one.mended, one.band_pixels, strict=True)
    ]
    heads = ["distance to a true border", "mIoU if mended alone", *BAND_NAMES]
    yield Table(f"{title}: by distance to a border", heads, rows)
    yield costly_table(f"{title}: images that lose most to each cause", one)
    classes = [
        [name, _number(iou), *map(_number, shares)]
        for name, iou, shares in zip(names, one.iou, one.class_shares, strict=True)
        if iou == iou  # not nan
    ]
    yield Table(f"{title}: IoU lost of each class", ["class", "IoU", *causes], classes)
    images, miou = one.by_classes
    counted = [
        [f"{number}", f"{count}", _number(value)]
        for number, count, value in zip(COUNT_NAMES, images, miou, strict=True)
    ]
    yield Table(f"{title}: by true classes in the image", ["classes", "images", "mIoU"], counted)
    areas = [
        [edge, f"{pixels:,}", _number(right)]
        for edge, pixels, right in zip(AREA_NAMES, *one.by_area, strict=True)
    ]
    heads = ["area of a class in its image", "pixels", "share that is right"]
    yield Table(f"{title}: pixel recall by area, without background", heads, areas)


def costly_table(title: str, one: Diagnosis) -> Table:
    """Return the images that lose most to each cause."""
    rows = [
        [
            CAUSES[cause],
            ", ".join(f"{image} ({part:.4f})" for image, part in parts.items()) or NONE,
        ]
        for cause, parts in zip(one.causes, one.costly, strict=True)
    ]
    heads = ["cause", "sample ids, each with its part of the share"]
    return Table(title, heads, rows, numbers=range(0))


def _number(value: float) -> str:
    return NONE if value != value else f"{value:.3f}"
