"""Photographs with a mask each, and optionally a file of objects: the base of most image sets.  H W
pixels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gestalt.data_modules.image_sets import ImageSetSample, LabelSet
from gestalt.data_modules.labels.folders import check_files, list_files, read_list
from gestalt.data_modules.labels.label_tables import select_tables
from gestalt.data_modules.labels.masks import ValueMap, read_mask
from gestalt.data_modules.labels.panoptic import PANOPTIC, Panoptic
from gestalt.data_modules.pixels.photographs import open_rgb, to_tensor


class Files(NamedTuple):
    """Files of one photograph.

    Attributes:
        name: name for messages.
        image: the photograph.
        mask: its mask of classes, or None.
        objects: its mask of objects, or of panoptic segments, or None.
    """

    name: str
    image: Path
    mask: Path | None
    objects: Path | None = None


def files_by_name(
    names: Iterable[str],
    *,
    images: Path,
    masks: Path | None,
    objects: Path | None = None,
    suffix: str = ".png",
) -> list[Files]:
    """List the files ``<name>.jpg`` and ``<name><suffix>`` of photographs in folders of images,
    masks and, if it exists, objects (PNG).
    """
    objects = objects if objects is not None and objects.is_dir() else None
    return [
        Files(
            name,
            images / f"{name}.jpg",
            masks / f"{name}{suffix}" if masks else None,
            objects / f"{name}.png" if objects else None,
        )
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
        panoptic: annotations that make the class map ``PANOPTIC`` and the instance map, in place of
            ``read_objects``.

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
    no_instances: str | None = "its masks do not tell objects apart"
    modes: Sequence[str] = ("P", "L")
    read_objects: Callable[[Path, Tensor], Tensor] | None = None
    panoptic: Panoptic | None = None

    def __post_init__(self) -> None:
        check_files(
            [path for files in self.photographs for path in files[1:] if path is not None],
            required_by=self.required_by,
        )

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
        labels = {}
        if files.mask is not None:
            values = read_mask(files.mask, image=image, modes=self.modes)
            labels = {
                key: self.maps[key](values, path=files.mask)
                for key in self.label_sets
                if key in self.maps
            }
        if self.panoptic is not None:
            labels[PANOPTIC], sample["instance"] = self.panoptic.read(files.name, image=image)
        elif files.objects is not None and self.read_objects is not None:
            sample["instance"] = self.read_objects(files.objects, image)
        sample["labels"] = {key: labels[key] for key in self.label_sets}
        return sample


def open_labelled(
    image_set: str,
    *,
    folder: Path,
    images: str,
    masks: str,
    table: str,
    label_sets: list[str] | None,
    limit: int | None,
    suffix: str = ".png",
    listed: Path | None = None,
    objects: Path | None = None,
    **further: Any,
) -> LabelledPhotographs:
    """Open photographs with masks of the same names in two folders, and classes of a table.

    Args:
        image_set: name of the set.
        folder: folder of the set.
        images: folder of the photographs in it.
        masks: folder of the masks in it.
        table: name of the table in ``image_sets/tables``.
        label_sets: names of the label sets to read; None for all.
        limit: number of photographs to keep, the first ones; None for all.
        suffix: ending of the masks, which is also the kind of values in the table.
        listed: file with the names of the photographs; None for all files of both folders, by name.
        objects: folder of the masks of objects, if it exists.
        further: further attributes of ``LabelledPhotographs``.

    Raises:
        ValueError: unknown label set, or a missing file.
    """
    names = (
        read_list(listed)
        if listed
        else sorted(
            {
                *list_files(folder / images, suffix=".jpg"),
                *list_files(folder / masks, suffix=suffix),
            }
        )
    )
    files = files_by_name(
        names[:limit], images=folder / images, masks=folder / masks, objects=objects, suffix=suffix
    )
    labels, maps = select_tables(table, label_sets, kind=suffix.removeprefix("."))
    return LabelledPhotographs(
        image_set, files, required_by=listed or "its pair", label_sets=labels, maps=maps, **further
    )
