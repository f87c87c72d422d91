"""Photographs with a mask each, and optionally a file of objects: the base of most image sets.  H W
pixels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gestalt.data_modules.labels.class_tables import select_tables
from gestalt.data_modules.labels.folders import check_files, find_folder, list_files, read_list
from gestalt.data_modules.labels.image_set import ImageSetSample, LabelSet, select_split
from gestalt.data_modules.labels.masks import SIXTEEN_BITS, ValueMap, read_mask
from gestalt.data_modules.labels.panoptic import PANOPTIC, Panoptic
from gestalt.data_modules.pixels.decoding import orientation
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
    masks and objects (PNG).
    """
    return [
        Files(
            name,
            images / f"{name}.jpg",
            masks / f"{name}{suffix}" if masks else None,
            objects / f"{name}.png" if objects else None,
        )
        for name in names
    ]


def stored_objects(path: Path, image: Tensor) -> Tensor:
    """Read a file of objects whose stored values are those of an instance map."""
    return torch.from_numpy(read_mask(path, image=image))


@dataclass(eq=False)
class LabelledPhotographs:
    """Photographs with class maps, and with instance maps if they have files of objects.

    Attributes:
        name: name of the image set.
        photographs: their files.
        required_by: the file that lists them, or "its pair", for messages.
        label_sets: label sets to make.
        maps: name of a label set -> map from the values of a mask to classes.
        official_length: number of images in the official split, or None.
        no_instances: the reason why there are no instance maps, for messages; None if there are.
        modes: Pillow modes of the masks, as in ``read_mask``.
        read_objects: makes an instance map of a file of objects and its image, (3, H, W).
        panoptic: annotations that make the class map ``PANOPTIC`` and the instance map, in place of
            ``read_objects``.
        definition: digest of the file that defines the set; None for a published one.

    Raises:
        ValueError: a file is missing.
    """

    name: str
    photographs: Sequence[Files]
    _: KW_ONLY
    required_by: object
    label_sets: Mapping[str, LabelSet]
    maps: Mapping[str, ValueMap]
    official_length: int | None
    no_instances: str | None = "its masks do not tell objects apart"
    modes: Sequence[str] = ("P", "L")
    read_objects: Callable[[Path, Tensor], Tensor] = stored_objects
    panoptic: Panoptic | None = None
    definition: str | None = None

    def __post_init__(self) -> None:
        check_files(
            [path for files in self.photographs for path in files[1:] if path is not None],
            required_by=self.required_by,
        )

    def __len__(self) -> int:
        return len(self.photographs)

    @property
    def paths(self) -> list[Path]:
        """Files of the photographs, in order."""
        return [files.image for files in self.photographs]

    @property
    def names(self) -> list[str]:
        """Names of the samples, in order."""
        return [files.name for files in self.photographs]

    def sample(self, index: int) -> ImageSetSample:
        """Read a photograph and its maps.

        Raises:
            ValueError: a map differs in size from its image, or has an unknown value; or, of a set
                that a file defines, EXIF turns the photograph.
        """
        files = self.photographs[index]
        photograph = open_rgb(files.image)
        if self.definition is not None and orientation(photograph) is not None:
            raise ValueError(
                f"{files.image}: its EXIF orientation turns it, and its mask may fit the stored or "
                "the turned pixels; store it turned, without the tag"
            )
        image = to_tensor(photograph)
        sample: ImageSetSample = {"image": image, "name": files.name}
        labels = {}
        if files.mask is not None:
            values = read_mask(files.mask, image=image, modes=self.modes)
            labels = {key: classes(values, path=files.mask) for key, classes in self.maps.items()}
        if self.panoptic is not None:
            labels[PANOPTIC], sample["instance"] = self.panoptic.read(files.name, image=image)
        elif files.objects is not None:
            sample["instance"] = self.read_objects(files.objects, image)
        sample["labels"] = {key: labels[key] for key in self.label_sets}
        return sample


def opener_of(
    image_set: str,
    *,
    table: str,
    official: Mapping[str, Sequence[int]],
    places: Sequence[str],
    get: str,
    images: str,
    masks: str,
    suffix: str = ".png",
    listed: str = "",
    objects: str = "",
    folders: Mapping[str, str] | None = None,
    **further: Any,
) -> Callable[..., LabelledPhotographs]:
    """Return the ``open_here`` of photographs with masks of the same names in two folders.

    In paths, ``{split}`` stands for the split, ``val`` by default, or for its folder.

    Args:
        image_set: name of the set.
        table: name of its table in ``labels/tables``.
        official: the numbers of images that a split may have, the usual one first.
        places: candidate folders under the root, the usual one first.
        get: instruction for the message about a missing folder.
        images, masks: folders in that folder; it must hold the masks, and the list or the images.
        suffix: ending of the masks, which is also the kind of values in the table; those that end
            in ``.tif`` have 16 bits.
        listed: file with the names of the photographs; empty for all files of both folders, by
            name.
        objects: folder of the masks of objects, if it exists.
        folders: folder of a split, where it is not the split's name.
        further: further attributes of ``LabelledPhotographs``.
    """

    def open_here(
        *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
    ) -> LabelledPhotographs:
        """Open a split; ``limit`` keeps the first photographs.

        Raises:
            ValueError: no root, unknown split or label set, or a missing image, mask or list.
        """
        split = select_split(image_set, split, known=official)
        named = (folders or {}).get(split, split)
        held = [name.format(split=named) for name in (listed or images, masks)]
        folder = find_folder(root, image_set=image_set, places=places, holds=held, get=get)

        def place(name: str) -> Path:
            return folder / name.format(split=named)

        image_folder, mask_folder = place(images), place(masks)
        required_by: object = "its pair"
        if listed:
            required_by = place(listed)
            names = read_list(place(listed))
        else:
            stems = {*list_files(image_folder, suffix=".jpg"), *list_files(mask_folder, suffix)}
            names = sorted(stems)
        attributes = {**further}
        if suffix == ".tif":
            attributes.setdefault("modes", SIXTEEN_BITS)
        has_objects = bool(objects) and place(objects).is_dir()
        if objects:
            attributes["no_instances"] = None if has_objects else f"no folder {place(objects)}"
        files = files_by_name(
            names[:limit],
            images=image_folder,
            masks=mask_folder,
            objects=place(objects) if has_objects else None,
            suffix=suffix,
        )
        labels, maps = select_tables(table, label_sets, kind=suffix.removeprefix("."))
        usual = official[split]
        return LabelledPhotographs(
            image_set,
            files,
            required_by=required_by,
            label_sets=labels,
            maps=maps,
            official_length=len(names) if len(names) in usual else usual[0],
            **attributes,
        )

    return open_here
