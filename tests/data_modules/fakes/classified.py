"""Tiny sets with one class a photograph, in their official layouts: ImageNet, ImageNet-V2,
Waterbirds.
"""

import csv
import itertools
from pathlib import Path

import numpy as np

from tests.data_modules.fakes.drawing import save_photograph

WORDNET = {0: "n01440764", 65: "n01751748", 999: "n15075141"}
"""Class -> folder.  Source: timm 1.0.31, timm/data/_info/imagenet_synsets.txt, rows 1, 66 and
1,000.
"""


def _plain(path: Path, value: int) -> None:
    """A photograph of one value."""
    save_photograph(path, np.full((9, 11), value))


def draw_imagenet(root: Path) -> None:
    """Two photographs a class, three classes of the thousand."""
    for position, (rank, folder) in enumerate(WORDNET.items()):
        for number in range(2):
            _plain(
                root / "imagenet/val" / folder / f"ILSVRC2012_val_{2 * position + number:08d}.JPEG",
                rank,
            )


def draw_imagenet_v2(root: Path) -> None:
    """Folders that sort differently as words and as numbers."""
    for rank in (0, 1, 2, 10, 100, 999):
        _plain(
            root / "imagenetv2-matched-frequency-format-val" / str(rank) / f"{rank:040x}.jpeg", rank
        )


def draw_waterbirds(root: Path) -> None:
    """Every group of every split, train and test unbalanced, rows in no order.  A photograph says
    10 * y + place.
    """
    folder = root / "waterbird_complete95_forest2water2"
    cells = [
        (y, split, place) for y, split, place in itertools.product((0, 1), (0, 1, 2), (0, 1))
    ] + [(0, 2, 1), (0, 2, 1)]
    cells += [(0, 0, 0)] * 3 + [(1, 0, 0)]
    order = np.random.default_rng(0).permutation(len(cells))
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["img_id", "img_filename", "y", "split", "place", "place_filename"])
        for number in order.tolist():
            y, split, place = cells[number]
            name = f"{number:03d}.Bird/Bird_{number}.jpg"
            _plain(folder / name, 10 * y + place)
            rows.writerow([number + 1, name, y, split, place, "/o/ocean/0000.jpg"])
