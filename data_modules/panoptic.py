"""COCO's panoptic annotations: a colour PNG of segment numbers, and a JSON that says what each segment is.  H W pixels."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data_modules.label_tables import Table
from data_modules.masks import objects, read_mask


class _Segment(NamedTuple):
    """One segment of an image."""

    number: int
    category: int
    crowd: bool


class Panoptic:
    """The annotations of a split.

    Attributes:
        names: stems of the annotated images, sorted.
        said_by: the JSON file.
    """

    def __init__(self, annotations: Path, *, split: str, table: Table) -> None:
        """Read the JSON in the folder ``annotations``; the PNGs lie in a folder of its name beside it.

        Raises:
            ValueError: there is no such file, or a category that the table does not have.
        """
        self.said_by = annotations / f"panoptic_{split}2017.json"
        self._folder = annotations / f"panoptic_{split}2017"
        if not self.said_by.is_file():
            raise ValueError(f"there is no file {self.said_by}; unpack panoptic_annotations_trainval2017.zip there")
        if not self._folder.is_dir():
            raise ValueError(f"there is no folder {self._folder}; unpack the {self._folder.name}.zip that lies inside the archive")
        self._table = table
        self._segments: dict[str, tuple[_Segment, ...]] = {}
        for entry in json.loads(self.said_by.read_text(encoding="utf-8"))["annotations"]:
            segments = (_Segment(one["id"], one["category_id"], crowd=bool(one["iscrowd"])) for one in entry["segments_info"])
            self._segments[Path(entry["file_name"]).stem] = tuple(segments)
        self.names = sorted(self._segments)

    def path(self, name: str) -> Path:
        """The PNG of an image."""
        return self._folder / f"{name}.png"

    def read(self, name: str, *, image: Tensor) -> tuple[Tensor, Tensor]:
        """The class map and the instance map of an image, both (H, W) uint8.

        Objects are the things; crowds and what is in no segment are void, stuff is background.

        Raises:
            ValueError: the PNG does not fit its image, or holds a segment that the JSON does not; or a category is unknown.
        """
        path = self.path(name)
        colours = read_mask(path, image=image, modes=("RGB",)).astype(np.int64)
        numbers, where = np.unique(colours @ [1, 256, 256**2], return_inverse=True)
        where = where.reshape(colours.shape[:2])
        segments = {segment.number: segment for segment in self._segments[name]} | {0: _Segment(0, 0, crowd=True)}
        wrong = [number for number in numbers.tolist() if number not in segments]
        if wrong:
            raise ValueError(f"{path} holds segments {wrong[:5]} that {self.said_by} does not have for it")
        found = [segments[number] for number in numbers.tolist()]
        label = self._table.maps["category_id"](np.array([one.category for one in found])[where], path=path)
        things = self._things([one.category for one in found])
        crowd = np.array([one.crowd for one in found])
        kept = np.flatnonzero(things & ~crowd)
        void = ((things & crowd) | (numbers == 0))[where]
        return label, objects(where, kept=kept, void=void, path=path)

    def _things(self, categories: list[int]) -> NDArray[np.bool_]:
        """Which categories are things."""
        last = self._table.entry["last_thing"]
        return np.array([0 < category <= last for category in categories])
