"""COCO's panoptic annotations: colour PNGs of segment numbers, and a JSON with the category of each
segment.  H W pixels.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from gestalt.data_modules.labels.class_tables import Table
from gestalt.data_modules.labels.masks import objects, packed, read_mask
from gestalt.support.arrays import Ints
from gestalt.support.files import read_listing

PANOPTIC = "coco_panoptic_133"


class Panoptic:
    """Panoptic annotations of a split.

    Attributes:
        names: stems of the annotated images, sorted.
        annotations: the JSON file.
        folder: folder of the PNGs.
    """

    def __init__(self, folder: Path, *, split: str, table: Table) -> None:
        """Read the JSON in the folder; the PNGs are in a folder of the same name beside it.

        Raises:
            ValueError: no such file or folder, or not panoptic annotations.
        """
        self.annotations = folder / f"panoptic_{split}2017.json"
        self.folder = folder / f"panoptic_{split}2017"
        if not self.annotations.is_file():
            raise ValueError(
                f"no file {self.annotations}; unpack panoptic_annotations_trainval2017.zip there"
            )
        if not self.folder.is_dir():
            raise ValueError(
                f"no folder {self.folder}; unpack the {self.folder.name}.zip inside the archive"
            )
        self._table = table
        self._segments: dict[str, Ints] = {}
        try:
            for entry in read_listing(self.annotations)["annotations"]:
                segments = [
                    (info["id"], info["category_id"], bool(info["iscrowd"]))
                    for info in entry["segments_info"]
                ]
                # pixels without a segment have number 0
                self._segments[Path(entry["file_name"]).stem] = np.array(
                    sorted([(0, 0, False), *segments]), dtype=np.int64
                )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{self.annotations} does not have the structure of panoptic annotations: {error!r}"
            ) from error
        self.names = sorted(self._segments)

    def read(self, name: str, image: Tensor) -> tuple[Tensor, Tensor]:
        """Read the class map and the instance map of an image, both (H, W) uint8.

        Things are objects, stuff is background; crowds and pixels without segment are void.

        Raises:
            ValueError: the PNG differs in size from its image, a segment is missing in the JSON, or
                a category is unknown.
        """
        path = self.folder / f"{name}.png"
        pixels = packed(read_mask(path, image=image, modes=("RGB",))[..., ::-1])  # red is lowest
        numbers, categories, crowds = self._segments[name].T
        where = np.searchsorted(numbers, pixels).clip(max=len(numbers) - 1)
        wrong = np.unique(pixels[numbers[where] != pixels]).tolist()
        if wrong:
            raise ValueError(
                f"{path} holds segments {wrong[:5]} that {self.annotations} does not list for this "
                "image"
            )
        label = self._table.maps["category_id"](categories[where], path=path)
        present = np.bincount(where.reshape(-1), minlength=len(numbers)) > 0
        things = (categories > 0) & (categories <= self._table.entry["last_thing"])
        crowd = crowds > 0
        void = ((things & crowd) | (numbers == 0))[where]
        return label, objects(
            where, kept=np.flatnonzero(things & ~crowd & present), void=void, path=path
        )
