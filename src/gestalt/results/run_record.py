"""Write the results file of ``train`` and ``eval``: the fields that both have, the files beside it,
and the table that is printed at the end.
"""

import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from lightning.pytorch import Callback, Trainer

from gestalt.config.schema import Experiment, config_hash, to_plain
from gestalt.config.start import start_of
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.callback import RecordedCallback
from gestalt.measures.evaluation.pictures import EXTREMES
from gestalt.measures.segmentation.class_maps import ClassMaps, write_extremes
from gestalt.results.causes import diagnose
from gestalt.results.record import provenance, write_record
from gestalt.results.result import HEADS, Result, headlines_of, read_result
from gestalt.results.supervision import supervision
from gestalt.results.text import NONE, Table, images_text
from gestalt.support.arrays import Array, write_arrays
from gestalt.support.files import Fields, file_hash


def scorers_of(callbacks: list[Callback]) -> list[RecordedCallback]:
    """Return the callbacks that write an entry in the results file."""
    return [callback for callback in callbacks if isinstance(callback, RecordedCallback)]


def scores_of(callbacks: list[Callback]) -> tuple[dict[str, float], list[Fields]]:
    """Return the metrics of all scorers, ``<benchmark>/<metric>`` -> value, and the entries of the
    results file without the metrics.
    """
    metrics: dict[str, float] = {}
    entries = [scorer.result() for scorer in scorers_of(callbacks)]
    for entry in entries:
        metrics |= entry.pop("metrics")
    return metrics, entries


def describe(
    config: Experiment,
    trainer: Trainer,
    model: DenseModel,
    *,
    tokens_kept: str,
    overrides: list[str],
) -> Fields:
    """Return the fields that the results files of ``train`` and ``eval`` share.  ``tokens_kept``
    describes the number of image tokens in a step.
    """
    text = model.text_origin
    metrics, entries = scores_of(trainer.callbacks)  # type: ignore[attr-defined]
    return {
        "metrics": metrics,
        "experiment": config.name,
        "scale": config.scale,
        "seed": config.seed,
        "overrides": overrides,
        "config": to_plain(config),
        "config_hash": config_hash(config),
        "image_init": {
            "requested": start_of(config.start, "image") or config.image.init,
            **model.image_origin.record(),
        },
        "text_init": None
        if text is None
        else {
            "requested": start_of(config.start, "text") or config.text.init,
            **text.record(),
        },
        "tokens_kept": tokens_kept,
        "benchmarks": entries,
        "ranks": trainer.world_size,
        "provenance": provenance(trainer.strategy.root_device),
    }


def scored_images(record: Fields) -> dict[str, str]:
    """Return benchmark -> number of scored images as text, from a results file."""
    return {entry["set"]: images_text(entry) for entry in record["benchmarks"] if "images" in entry}


def write_results(
    path: Path, record: Fields, callbacks: list[Callback], *, arrays: Path, extremes: Path
) -> Result:
    """Write a results file and the files beside it, and print its path.  Returns the result, as
    read from the files.

    Args:
        path: path of the results file.
        record: content of the results file, without supervision and without the hashes of the
            arrays.
        callbacks: callbacks of the trainer, including the scorers.
        arrays: folder for the contributions of the images.
        extremes: parent of the folder for the best and worst images.
    """
    scorers = scorers_of(callbacks)
    write_extremes(extremes / EXTREMES, scorers, costly_images)
    further = {"supervision": supervision(record), "arrays": write_per_image(arrays, scorers)}
    write_record(path, {**record, **further})
    print(f"result: {path}", file=sys.stderr, flush=True)
    return read_result(path)


def costly_images(scorer: ClassMaps) -> Iterable[int]:
    """Return the ids of the images that lose most to each cause, without duplicates."""
    score, labels = scorer.scores["model"], scorer.labels
    found = diagnose(
        scorer.arrays(score)["rows"],
        images=score.images,
        classes=len(labels.names),
        background=labels.background,
    )
    return dict.fromkeys(chain.from_iterable(found.costly))


def write_per_image(folder: Path, scorers: Iterable[RecordedCallback]) -> dict[str, dict[str, str]]:
    """Write the arrays of every scorer atomically, with one file for each set: the contribution of
    each image, and the confusion matrix.

    Args:
        folder: folder to write ``<benchmark>.npz`` files to; it is created if it does not exist.
            Rows of arrays are in order of image id.
        scorers: callbacks with arrays.  Several may score the same set.

    Returns:
        Set -> fields for the results file: the path of the arrays, relative to the parent of the
        folder, and the SHA-256 of the file.
    """
    sets: dict[str, dict[str, Array]] = {}
    for scorer in scorers:
        for key, array in scorer.per_image().items():
            name, _, array_name = key.partition("/")
            sets.setdefault(name, {})[array_name] = array
    written = {}
    for name, arrays in sets.items():
        path = folder / f"{name}.npz"
        write_arrays(path, arrays)
        written[name] = {"file": f"{folder.name}/{path.name}", "sha256": file_hash(path)}
    return written


def print_result(result: Result, *, verbose: bool = False) -> None:
    """Print a result.

    The output shows how many images of each benchmark were scored, and a table of the metrics with
    their intervals, their baselines and the values of the best checkpoint. If a headline metric has
    no interval, the reason is printed. ``verbose`` adds the IoU of each class.
    """
    record = result.record
    if (step := record.get("resumed_from_step")) is not None:
        print(f"resumed from step {step} of {record['steps_planned']}")
    for name, text in scored_images(record).items():
        print(f"{name}: {text}")
    keys = (key for entry in record["benchmarks"] for key in entry.get("metric_keys", ()))
    rows = result.metric_rows(keys)
    heads = [*HEADS]
    if best := record.get("best"):
        heads.append(best["checkpoint"])
        for row in rows:
            row.append(f"{best['value']:.4f}" if row[0] == best["monitor"] else NONE)
    print(Table("", heads, rows).markdown(aligned=True))
    for metric in headlines_of([key for key, *_ in rows]):
        if result.interval(metric) is None:
            print(f"{metric}: no interval, {result.why_no_interval(metric)}")
    classes = {key: value for key, value in record["metrics"].items() if "/iou/" in key}
    if verbose:
        for key, value in classes.items():
            print(f"{key} {value:.4f}")
    elif classes:
        print(f"IoU of {len(classes)} classes: in the record, or by --verbose")
