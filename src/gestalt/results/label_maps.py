"""The class maps that an evaluation leaves: a folder for each benchmark, and the statement of what
made them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from gestalt.config.schema import ConfigError
from gestalt.measures.label_maps import STATEMENT, LabelMaps
from gestalt.measures.segmentation.class_maps import ClassMaps
from gestalt.results.record import write_record
from gestalt.runs.folders import check_writable, first_rank
from gestalt.support.files import check_free
from gestalt.support.label_values import ignored_value

ENTRY = (
    "image_set",
    "images",
    "images_in_set",
    "images_official",
    "label_set",
    "names",
    "vocabulary",
    "templates",
    "protocol",
)
"""Keys of a benchmark's entry in the record that the statement repeats."""

MODEL = (
    "experiment",
    "scale",
    "seed",
    "checkpoint",
    "checkpoint_sha256",
    "run",
    "steps",
    "steps_planned",
    "weights_sha256",
    "model",
    "overrides",
    "config_hash",
    "provenance",
)
"""Keys of the record that the statement repeats."""


def write_maps(callbacks: Iterable[Callback], folder: Path) -> list[ClassMaps]:
    """Let every callback that scores class maps write them to ``<folder>/<benchmark>``.  Returns
    these callbacks.

    Raises:
        ValueError: such a folder is not empty.
        ConfigError: it cannot be written, or there is no such callback.
    """
    scorers = [callback for callback in callbacks if isinstance(callback, ClassMaps)]
    if not scorers:
        raise ConfigError(
            f"--predictions {folder}: none of the benchmarks measures segmentation; leave it out"
        )
    for scorer in scorers:
        place = folder / scorer.name
        if first_rank():
            check_free(place, option=f"--predictions {folder}")
            check_writable(place, option="--predictions DIR")
        assert scorer.labels is not None
        scorer.label_maps = LabelMaps(place, labels=scorer.labels)
    return scorers


def state_origin(scorers: Iterable[ClassMaps], record: Mapping[str, Any]) -> None:
    """Write ``predictions.json`` beside the maps: classes, protocol, model and weights, from the
    record of their evaluation.
    """
    for scorer in scorers:
        assert scorer.label_maps is not None
        entry = scorer.result()
        statement = {
            "benchmark": scorer.name,
            "split": record["config"].get("evaluation", {}).get("split"),
            "unnamed": ignored_value(len(scorer.labels.names)),
            "files": "<image name>.png, class indices",
            **{key: entry[key] for key in ENTRY if key in entry},
            **{key: record[key] for key in MODEL if key in record},
        }
        write_record(scorer.label_maps.folder / STATEMENT, statement)
