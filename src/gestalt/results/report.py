"""Write the page of ``report``: one HTML file with results that loads nothing from elsewhere.

The page uses the template ``report.html``, and the section of each result uses ``blocks.html``. A
section shows the origin of the result, and for each benchmark the metrics, classes, confusions,
best and worst images, and the protocol.

The best and worst images were stored when the set was scored, so the page needs neither the model
nor the data.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from gestalt.measures.evaluation.pictures import Predictions, segmentation_panels
from gestalt.results.causes import CAUSES
from gestalt.results.comparability import (
    split_by_measurement,
    supervision_notes,
    supervision_table,
)
from gestalt.results.compare import METHOD, Comparison, compare, differing
from gestalt.results.diagnosis import costly_table, of_result, picture, tables
from gestalt.results.grid import METHOD as GRID_METHOD
from gestalt.results.grid import GridResults, build_tables
from gestalt.results.grid_page import grid_page
from gestalt.results.plots import bars, curve, lines, render_figure
from gestalt.results.result import HEADS, Result, headlines, measured
from gestalt.results.scores import Score, below_trivial, finding, score_rows
from gestalt.results.templates import BLOCKS, HERE, image_url, render
from gestalt.results.text import (
    OVER_IMAGES,
    Table,
    images_text,
    metric_words,
)
from gestalt.support.arrays import Floats, Ints
from gestalt.support.files import Fields, write_whole
from gestalt.support.typed import ConfigError

SUBTITLE = "Perceptual grouping of contrastive vision-language models, as measured."
"""Line at the top of every report.  A file with this line may be overwritten."""

SHARE = re.compile(r"share=[\d.e-]+")
"""Pattern of the labels of results that differ only in the share of a run in mixed weights."""

MAX_SECTIONS, MAX_CHARACTERS = 8, 10_000_000
"""Maximum number of sections on the page, and maximum number of characters of all sections.
Further results are only shown in the tables.
"""


def write_report(
    results: Sequence[Result], output: Path, grids: Sequence[GridResults] = ()
) -> None:
    """Write the page atomically.  An older report is replaced.

    Raises:
        ConfigError: the path cannot be written to, or is a file that is not a report; or the arrays
            of a result do not belong to its results file.
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
    sections: list[Markup] = []
    for number, result in enumerate(results[:MAX_SECTIONS]):
        section = render_section(result, number)
        if sections and sum(map(len, (*sections, section))) > MAX_CHARACTERS:
            break
        sections.append(section)
    shown = [grid_page(grid, build_tables(grid, allow_mixed=True)) for grid in grids]
    title, *others = dict.fromkeys(result.model for result in results)
    if others:
        title += f" and {len(others)} more"
    # the tables of a grid already compare its cells
    compared = len(results) > max([1, *(len(grid.views[""]) for grid in grids)])
    comparison = compare(results, allow_mixed=True) if compared else None
    opening, pictures = _opening(results[0], comparison)
    if comparison is not None:  # the opening sentence already has these notes
        notes = [note for note in comparison.notes if note not in opening]
        comparison = comparison._replace(notes=notes)
    side_by_side = results[: len(sections)] if compared else []
    page = render(
        HERE / "report.html",
        title=shown[0].design.title if shown else title,
        subtitle=SUBTITLE,
        results=results,
        grids=shown,
        grid_method=GRID_METHOD,
        finding=opening,
        pictures=pictures,
        comparison=comparison,
        supervision=supervision_table(results),
        losses=_bars_of(_losses(side_by_side, measured(side_by_side))),
        differing=differing(results) if compared else (),
        method=METHOD if compared else OVER_IMAGES,
        sections=sections,
    )
    write_whole(output, page)


def _opening(first: Result, comparison: Comparison | None) -> tuple[str, dict[str, bytes]]:
    """Return the opening of a page: a sentence, and title -> picture.

    For one result the opening shows the headline metrics, for several results the first metric of
    the comparison.
    """
    if comparison is not None:
        column = comparison.columns[0]
        scores, against = column.scores, column.against
        title = column.title
        scored = [result for result in comparison.results if result.label in scores]
        sentence = finding(column.metric, scores, against=against)
        if sentence:
            sentence = " ".join([sentence, *supervision_notes(scored)])
    else:
        scores, against, title = dict[str, Score](), "", first.label
        for metric in headlines([first]):
            scores |= score_rows({metric: {0: first}}, metric, against=metric)
        named = {metric_words(metric): score for metric, score in scores.items()}
        numbers = [
            f"{name} {score.texts()[0]}" + (f" on {score.part}" if score.part else "")
            for name, score in named.items()
        ]
        sentence = "; ".join(numbers) + "." + below_trivial(named)
    if not scores:
        return "", {}
    if comparison is not None and (series := curves_over_shares(comparison)):
        title = "Weights between a start and a run"
        figure = lines(series, title="", x_label="share of the run", y_label="score")
    else:
        figure = bars(scores, title=title, base=against, x_label="")
    return sentence, {title: render_figure(figure)}


def curves_over_shares(comparison: Comparison) -> dict[str, dict[float, Score]]:
    """Return column -> share of the run in mixed weights -> score, in order of the share.  It is
    empty unless the results differ only in the share.
    """
    if not all(SHARE.fullmatch(result.label) for result in comparison.results):
        return {}
    return {
        column.title: dict(
            sorted(
                (float(label.partition("=")[2]), score) for label, score in column.scores.items()
            )
        )
        for column in comparison.columns
    }


WORST_PAIRS, MAX_DRAWN = 20, 30
"""Maximum number of confusions in the list, and maximum number of classes for which a confusion
matrix is drawn.
"""

PROVENANCE = (
    "file",
    "format",
    "config_hash",
    "checkpoint",
    "checkpoint_sha256",
    "run",
    "weights_sha256",
    "interpolation",
    "predictions",
    "arrays",
    "overrides",
    "ranks",
    "provenance",
)
"""Fields of a results file that describe the model, the files, the command and the machine."""

SCORED = ("protocol", "label_set", "vocabulary", "templates", "calibration")
"""Fields of an entry that describe how its set was scored."""


COSTLY = "Images that lose most to"

KEEP = (
    "The images whose predictions are stored are drawn below. gestalt score stores all of them, "
    "and so does gestalt eval with --predictions DIR."
)


def render_section(result: Result, number: int) -> Markup:
    """Return the section of a result as HTML.  ``number`` is the number of the section's anchor."""
    parts: list[Markup] = []
    for entry in result.record["benchmarks"]:
        parts += _entry(result, entry)
    parts.append(_details("Provenance", {"file": str(result.path), **result.record}, PROVENANCE))
    return Markup(BLOCKS.section(number, result.label, _origin(result), parts))


def _details(summary: str, fields: Fields, keys: Sequence[str]) -> Markup:
    """Return the fields with these keys, if they exist, as HTML that unfolds under a summary."""
    shown = {key: fields[key] for key in keys if fields.get(key) is not None}
    return Markup(BLOCKS.details(summary, json.dumps(shown, indent=1, ensure_ascii=False)))


def _origin(result: Result) -> str:
    """Return a paragraph that describes how a result was made."""
    record, commit = result.record, result.commit[:20]
    if "predictions" in record:
        notes = [f"{key}: {value}" for key, value in record["predictions"]["notes"].items()]
        return (
            f"Label maps of {record['name']}. Predicted by another system and counted here, commit "
            f"{commit}. Their maker states {'; '.join(notes) or 'nothing'}."
        )
    run = str(record["experiment"])
    if record.get("scale"):  # an external model has none
        run += f" at scale {record['scale']}, seed {record.get('seed')}"
    steps, planned = record.get("steps"), record.get("steps_planned")
    if steps is not None:
        run += f", {steps} steps" + ("" if planned in (None, steps) else f" of {planned}")
    if (first := record.get("resumed_from_step")) is not None:
        run += f", resumed from step {first}"
    init, machine = record["image_init"], record["provenance"]["machine"]
    return (
        f"{run}. Image tower from {init['resolved']} (requested: {init['requested']}), commit "
        f"{commit}, on {machine.get('device') or machine['accelerator']}."
    )


def _entry(result: Result, entry: Fields) -> Iterator[Markup]:
    """Yield the parts of a section that show one entry of the results file."""
    measure = entry.get("measure") or entry["left_out"]
    yield BLOCKS.benchmark(f"{entry['set']}: {measure}", entry.get("why"))
    if "left_out" in entry:
        return
    protocol = entry["protocol"]
    scored = [images_text(entry)]
    if calibration := entry.get("calibration"):
        on = f"{images_text(calibration)} of {calibration['split']}"
        scored.append(f"threshold calibrated on {on}")
    for key in ("objects", "groups", "captions", "ignored_pixels"):
        if key in entry:
            scored.append(f"{entry[key]:,} {key.replace('_', ' ')}")
    title = f"{measure} with the protocol {protocol['name']}: {', '.join(scored)}"
    rows = result.metric_rows(entry["metric_keys"])
    yield BLOCKS.table(Table(title, HEADS, rows, range(1, 3)))
    if measure == "segmentation":
        yield from _segmentation(result, entry)
    yield _details(f"Protocol of {measure}", entry, SCORED)


def _segmentation(result: Result, entry: Fields) -> Iterator[Markup]:
    """Yield the causes of lost mIoU, the IoU of each class, the confusions, the best and worst
    images, and the images that lose most to each cause.
    """
    costly = {}
    losses = _losses([result], entry["metric_keys"])
    for table in losses:
        yield BLOCKS.table(table)
    yield BLOCKS.charts(_bars_of(losses))
    if losses:
        one = of_result(result, f"{entry['set']}/miou")
        drawn = {title: render_figure(curve(values, title)) for title, values in one.curves.items()}
        yield BLOCKS.charts(drawn, "curves")
        yield BLOCKS.table(replace(costly_table(f"{COSTLY} each cause", one), notes=[KEEP]))
        for cause, parts in zip(one.causes, one.costly, strict=True):
            costly[f'{COSTLY} "{CAUSES[cause]}"'] = {
                image: f"sample {image}, {part:.4f} of the share" for image, part in parts.items()
            }
    ious = dict(zip(entry["names"], entry["iou"], strict=True))
    known = [pair for pair in ious.items() if pair[1] is not None]
    absent = [name for name, iou in ious.items() if iou is None]
    yield BLOCKS.classes(sorted(known, key=lambda pair: -pair[1]), absent)
    if (confusion := result.arrays(entry["set"]).get("confusion")) is not None:
        names = [*entry["names"], *("no class",) * (confusion.shape[1] - len(confusion))]
        if len(confusion) <= MAX_DRAWN:
            yield BLOCKS.heat(names, (100 * share_of_truth(confusion)).round().astype(int).tolist())
        yield BLOCKS.table(confusions(confusion, names))
    if predictions := result.extremes(entry["set"]):
        captions = {
            f"{end} images, by the mean IoU of the classes in each": {
                facts["sample_id"]: f"{facts['iou']:.3f}"
                for facts in entry.get(f"{end.lower()}_images", ())
            }
            for end in ("Best", "Worst")
        }
        for heading, captioned in {**captions, **costly}.items():
            if images := draw_images(predictions, captioned):
                yield BLOCKS.images(heading, images)


def _losses(results: Sequence[Result], metrics: Iterable[str]) -> list[Table]:
    """Return tables of the mIoU lost to each cause, one for each mIoU.

    A mIoU is left out unless all of its results stored the rows of each image, and have the same
    images and classes.
    """
    shown = []
    for metric in metrics:
        name, _, kind = metric.partition("/")
        if kind != "miou":
            continue
        kept = [
            one for one in results if one.value(metric) is not None and "rows" in one.arrays(name)
        ]
        split = split_by_measurement(kept, metric, rows_name_settings=True)
        if len(split.groups) == 1:
            shown += tables(kept, metrics=[metric])
    return shown


def _bars_of(losses: Sequence[Table]) -> dict[str, bytes]:
    """Return title -> picture of the tables; empty without tables."""
    return {"mIoU, and what each cause loses of it": picture(losses)} if losses else {}


def share_of_truth(confusion: Ints) -> Floats:
    """Return the share of each predicted class in the pixels of each true class."""
    share: Floats = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return share


def confusions(confusion: Ints, names: Sequence[str]) -> Table:
    """Return the pairs of classes with the most confused pixels.

    Args:
        confusion: (C, C), or (C, C + 1) with a last column for pixels without a predicted class.
        names: names of the columns.
    """
    share = share_of_truth(confusion)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:WORST_PAIRS]
    largest = [
        [names[row], names[column], f"{wrong[row, column]:,}", f"{100 * share[row, column]:.1f} %"]
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    title = f"The {len(largest)} largest confusions, by pixels"
    return Table(
        title,
        ["true class", "predicted as", "pixels", "share of the true class"],
        largest,
        range(2, 4),
    )


def draw_images(
    predictions: Predictions, captions: Mapping[int, str]
) -> list[tuple[str, str, Markup]]:
    """Draw the stored images that have a caption, each with its prediction and its ground truth, in
    the order of the captions.  Returns title, caption and data URL of each.
    """
    kept = {image.sample_id: image for image in predictions.images}
    return [
        (
            kept[index].title,
            caption,
            image_url(
                segmentation_panels(kept[index], predictions.names, predictions.background),
                "jpeg",
                quality=85,
            ),
        )
        for index, caption in captions.items()
        if index in kept
    ]
