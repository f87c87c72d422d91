"""COCO's panoptic annotations: a colour PNG of segment numbers, and a JSON that says what each segment is.  H W pixels."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from data_modules.labels.label_tables import Table
from data_modules.labels.masks import objects, read_mask


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
            ValueError: there is no such file or folder, or it is no file of panoptic annotations.
        """
        self.said_by = annotations / f"panoptic_{split}2017.json"
        self._folder = annotations / f"panoptic_{split}2017"
        if not self.said_by.is_file():
            raise ValueError(f"there is no file {self.said_by}; unpack panoptic_annotations_trainval2017.zip there")
        if not self._folder.is_dir():
            raise ValueError(f"there is no folder {self._folder}; unpack the {self._folder.name}.zip that lies inside the archive")
        self._table = table
        self._segments: dict[str, tuple[_Segment, ...]] = {}
        try:
            for entry in json.loads(self.said_by.read_text(encoding="utf-8"))["annotations"]:
                segments = (_Segment(one["id"], one["category_id"], crowd=bool(one["iscrowd"])) for one in entry["segments_info"])
                self._segments[Path(entry["file_name"]).stem] = tuple(segments)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.said_by} is no JSON: {error}") from error
        except KeyError as error:
            raise ValueError(f"{self.said_by} has no {error}, which panoptic annotations have") from error
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
        colours = read_mask(path, image=image, modes=("RGB",)).astype(np.int32)
        pixels = colours[..., 0] + 256 * colours[..., 1] + 65_536 * colours[..., 2]
        segments = sorted((_Segment(0, 0, crowd=False), *self._segments[name]))
        numbers = np.array([one.number for one in segments])
        where = np.searchsorted(numbers, pixels).clip(max=len(numbers) - 1)
        wrong = np.unique(pixels[numbers[where] != pixels]).tolist()
        if wrong:
            raise ValueError(f"{path} holds segments {wrong[:5]} that {self.said_by} does not have for it")
        label = self._table.maps["category_id"](np.array([one.category for one in segments])[where], path=path)
        present = np.bincount(where.reshape(-1), minlength=len(segments)) > 0
        things = np.array([0 < one.category <= self._table.entry["last_thing"] for one in segments])
        crowd = np.array([one.crowd for one in segments])
        void = ((things & crowd) | (numbers == 0))[where]
        return label, objects(where, kept=np.flatnonzero(things & ~crowd & present), void=void, path=path)
