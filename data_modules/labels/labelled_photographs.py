"""Photographs with one mask file each: what most image sets are, once their files are found.  H W pixels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from data_modules.image_sets import ImageSetSample, LabelSet
from data_modules.labels.folders import check_files
from data_modules.labels.masks import ValueMap, read_mask
from data_modules.pixels.photographs import open_rgb, to_tensor


class Files(NamedTuple):
    """The files of one photograph.

    Attributes:
        name: for people.
        image: the photograph.
        mask: its classes.
        objects: its objects, or None.
    """

    name: str
    image: Path
    mask: Path
    objects: Path | None = None


class LabelledPhotographs:
    """Photographs with class maps, and instance maps where there are files of them.

    Args:
        name: of the image set.
        photographs: their files.
        listed_in: what names them, for people.
        label_sets: those to make.
        maps: label set -> which class each value of a mask stands for.
        official_length: as ``ImageSet``.
        no_instances: as ``ImageSet``.
        read_objects: from a file of objects and its (3, H, W) image to an instance map.

    Raises:
        ValueError: a file is not there.
    """

    def __init__(
        self,
        name: str,
        photographs: Sequence[Files],
        *,
        listed_in: object,
        label_sets: Mapping[str, LabelSet],
        maps: Mapping[str, ValueMap],
        official_length: int,
        no_instances: str | None,
        read_objects: Callable[[Path, Tensor], Tensor] | None = None,
    ) -> None:
        """Check that all files are there."""
        check_files([path for one in photographs for path in one[1:] if path is not None], said_by=listed_in)
        self.name = name
        self.label_sets = label_sets
        self.official_length = official_length
        self.no_instances = no_instances
        self._photographs = photographs
        self._maps = maps
        self._read_objects = read_objects

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self._photographs)

    def sample(self, index: int) -> ImageSetSample:
        """A photograph and its maps.

        Raises:
            ValueError: a map of another size than its image, or with a value that stands for nothing.
        """
        files = self._photographs[index]
        image = to_tensor(open_rgb(files.image))
        sample: ImageSetSample = {"image": image, "name": files.name}
        values = read_mask(files.mask, image=image)
        sample["labels"] = {key: self._maps[key](values, path=files.mask) for key in self.label_sets}
        if files.objects is not None:
            assert self._read_objects is not None
            sample["instance"] = self._read_objects(files.objects, image)
        return sample
