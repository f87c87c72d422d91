"""Photographs with a mask each, and optionally a file of objects: the base of most image sets.  H W pixels."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from data_modules.image_sets import ImageSetSample, LabelSet
from data_modules.labels.folders import check_files
from data_modules.labels.masks import ValueMap, read_mask
from data_modules.pixels.photographs import open_rgb, to_tensor


class Files(NamedTuple):
    """Files of one photograph.

    Attributes:
        name: name for messages.
        image: the photograph.
        mask: its mask of classes.
        objects: its mask of objects, or None.
    """

    name: str
    image: Path
    mask: Path
    objects: Path | None = None


def files_by_name(names: Iterable[str], *, images: Path, masks: Path, objects: Path | None = None, suffix: str = ".png") -> list[Files]:
    """List the files ``<name>.jpg`` and ``<name><suffix>`` of photographs in folders of images, masks and, if it exists, objects (PNG)."""
    objects = objects if objects is not None and objects.is_dir() else None
    return [
        Files(name, images / f"{name}.jpg", mask=masks / f"{name}{suffix}", objects=objects / f"{name}.png" if objects else None)
        for name in names
    ]


@dataclass(eq=False)
class LabelledPhotographs:
    """Photographs with class maps, and with instance maps if they have files of objects.

    Attributes:
        name: name of the image set.
        photographs: their files.
        required_by: the file that lists them, or "its pair", for messages.
        label_sets: label sets to make.
        maps: name of a label set -> map from the values of a mask to classes.
        official_length: as ``ImageSet``.
        no_instances: as ``ImageSet``.
        modes: Pillow modes of the masks, as in ``read_mask``.
        read_objects: makes an instance map of a file of objects and its image, (3, H, W).

    Raises:
        ValueError: a file is missing.
    """

    name: str
    photographs: Sequence[Files]
    _: KW_ONLY
    required_by: object
    label_sets: Mapping[str, LabelSet]
    maps: Mapping[str, ValueMap]
    official_length: int
    no_instances: str | None
    modes: Sequence[str] = ("P", "L")
    read_objects: Callable[[Path, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        check_files([path for files in self.photographs for path in files[1:] if path is not None], required_by=self.required_by)

    def __len__(self) -> int:
        return len(self.photographs)

    @property
    def names(self) -> list[str]:
        """Names of the samples, in order."""
        return [files.name for files in self.photographs]

    def sample(self, index: int) -> ImageSetSample:
        """Read a photograph and its maps.

        Raises:
            ValueError: a map differs in size from its image, or has an unknown value.
        """
        files = self.photographs[index]
        image = to_tensor(open_rgb(files.image))
        sample: ImageSetSample = {"image": image, "name": files.name}
        values = read_mask(files.mask, image=image, modes=self.modes)
        sample["labels"] = {key: self.maps[key](values, path=files.mask) for key in self.label_sets}
        if files.objects is not None:
            assert self.read_objects is not None
            sample["instance"] = self.read_objects(files.objects, image)
        return sample
