"""Results of pictures as files: a coloured picture, a map with its palette, numbers, and a summary
of all.  H W pixels.

A file's name need not be UTF-8: what is not is written as Python's escape, from which JSON gives
the name back.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gestalt.evaluation.pictures import class_colours, map_image
from gestalt.measures.segmentation.segmented import SegmentedImage
from gestalt.support.files import replacing, write_whole

Numbers = dict[str, Any]
"""The numbers of a picture, as JSON."""

COLUMNS = ("picture", "name", "area", "mean", "max")


def indexed(result: SegmentedImage) -> Image.Image:
    """Return the map as a picture whose values are positions in the labels, as ``map_image``."""
    return map_image(result.map.numpy(), classes=len(result.labels), background=None)


def numbers(result: SegmentedImage, *, picture: Path, kind: str) -> Numbers:
    """Return a picture's numbers as JSON: its size, and of each label the value in the map, colour,
    area and scores.
    """
    colours = class_colours(len(result.labels), background=None)
    rows = [
        {
            "name": name,
            "value": value,
            "colour": f"#{bytes(colours[value]).hex()}",
            "area": round(result.areas[name], 6),
            **(result.scores[name]._asdict() if result.scores else {}),
        }
        for value, name in enumerate(result.labels)
    ]
    height, width = result.map.shape
    without = max(0.0, 1 - sum(result.areas.values()))
    return {
        "picture": str(picture),
        "width": width,
        "height": height,
        kind: rows,
        "without": round(without, 6),
    }


def write_result(result: SegmentedImage, entry: Numbers, *, files: Sequence[Path]) -> None:
    """Write a picture's result.

    Args:
        result: result of the picture.
        entry: its numbers.
        files: by their endings the coloured picture (``_overlay.png``), the map (``.png`` and
            ``.npy``) and the numbers (``.json``).
    """
    for path in files:
        if path.suffix == ".json":
            _write_json(path, entry)
            continue
        with replacing(path) as partial, partial.open("wb") as file:
            if path.suffix == ".npy":
                np.save(file, result.map.numpy())
            else:
                overlay = path.name.endswith("_overlay.png")
                (result.overlay() if overlay else indexed(result)).save(file, format="PNG")


def write_summary(
    entries: list[Numbers], *, about: dict[str, Any], folder: Path, kind: str
) -> None:
    """Write ``<kind>.json``, how the results were made and all numbers, and ``<kind>.csv``, a row
    for each name in each.
    """
    import pandas as pd

    _write_json(folder / f"{kind}.json", {**about, "pictures": entries})
    rows = [{"picture": entry["picture"], **row} for entry in entries for row in entry[kind]]
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    write_whole(folder / f"{kind}.csv", table.to_csv(index=False, lineterminator="\n"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
