"""A tiny COCO with panoptic annotations: colour PNGs of segment numbers, and the JSON."""

import json
from pathlib import Path

import numpy as np

from tests.data_modules.fakes.drawing import blocks, save_colours, save_photograph
from tests.data_modules.fakes.masks import SHAPES

SEGMENTS = {1: 8_345_037, 13: 77, 90: 256, 92: 70_000, 200: 65_536}
"""Category id -> segment number in the file: more than two bytes, one byte, a bare second byte."""


def draw_panoptic(root: Path) -> None:
    """Three photographs.  13 is a crowd in the first; 0 is in no segment.  The JSON is not
    sorted.
    """
    annotations = []
    for number, shape in enumerate(SHAPES):
        name = f"{139 + number:012d}"
        values = blocks([0, *SEGMENTS], shape=shape, seed=number)
        save_photograph(root / f"val2017/{name}.jpg", values)
        segments = sum((values == category) * segment for category, segment in SEGMENTS.items())
        colours = np.stack([segments % 256, segments // 256 % 256, segments // 65_536], axis=-1)
        save_colours(root / f"annotations/panoptic_val2017/{name}.png", colours)
        info = [
            {
                "id": segment,
                "category_id": category,
                "iscrowd": int(category == 13 and number == 0),
                "area": int((values == category).sum()),
            }
            for category, segment in SEGMENTS.items()
        ]
        annotations.append(
            {"image_id": 139 + number, "file_name": f"{name}.png", "segments_info": info}
        )
    (root / "annotations/panoptic_val2017.json").write_text(
        json.dumps({"annotations": annotations[::-1]})
    )
