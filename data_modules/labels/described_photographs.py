"""Photographs with one class each, with the place where they were taken if it is known, or with
captions.  H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from gestalt.data_modules.labels.folders import check_files, find_folder, list_files
from gestalt.data_modules.labels.image_set import (
    ImageSetSample,
    LabelSet,
    select_label_sets,
    select_split,
)
from gestalt.data_modules.labels.masks import Table, read_tables
from gestalt.data_modules.pixels.photographs import open_rgb, to_tensor
from gestalt.support.files import MAX_LISTING, read_json

IMAGENET = "imagenet_1000"


Described = tuple[Path, dict[str, Any]]
"""The file of a photograph, and the fields of its ``ImageSetSample`` besides image and name."""


@dataclass(eq=False)
class DescribedPhotographs:
    """Photographs, each with a class or with captions.

    Attributes:
        name: name of the image set.
        photographs: photographs whose files exist.
        label_sets: the label set of ``class_label``; empty for captions.
        official_length: number of images in the official split.
        no_instances: the reason why there are no instance maps, for messages.
        train_groups: number of photographs of each class at each place in the training split, if
            known.
        names: names of the photographs, in order, where records shall list them.
    """

    name: str
    photographs: Sequence[Described]
    _: KW_ONLY
    label_sets: Mapping[str, LabelSet]
    official_length: int | None
    no_instances: str | None = "its photographs have one class each and no maps"
    train_groups: Sequence[Sequence[int]] | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.photographs)

    def sample(self, index: int) -> ImageSetSample:
        """Read a photograph with what describes it."""
        path, facts = self.photographs[index]
        return {"image": to_tensor(open_rgb(path)), "name": path.stem, **facts}  # type: ignore[typeddict-item]


def evenly(photographs: Sequence[Described], limit: int | None) -> Sequence[Described]:
    """Return at most ``limit`` photographs, spread evenly over all classes, since they are sorted
    by class.
    """
    if limit is None or limit >= len(photographs):
        return photographs
    return [photographs[number * len(photographs) // limit] for number in range(limit)]


def captioned_opener(
    image_set: str,
    *,
    place: str,
    images: str,
    table: str,
    get: str,
    read: Callable[[Path, str], Sequence[tuple[str, list[str]]]],
    official: Mapping[str, int | None],
) -> Callable[..., DescribedPhotographs]:
    """Return the ``open_here`` of photographs with captions.

    Args:
        image_set: name of the set.
        place: candidate folder under the root.
        images: folder of the photographs in it.
        table: file of the captions in it.
        get: instruction for the message about a missing folder.
        read: returns the names of a split's photographs in the table, in order, with their
            captions.
        official: split to its number of images, None if that is not known; the first split is the
            default.
    """

    def open_here(
        *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
    ) -> DescribedPhotographs:
        """Open a split, by default the first in ``official``; ``limit`` keeps the first
        photographs.

        Raises:
            ValueError: no root, unknown split, a label set, another folder, an invalid table, or a
                missing photograph.
        """
        select_label_sets({}, label_sets)
        split = select_split(image_set, split, known=official, default=next(iter(official)))
        folder = find_folder(
            root, image_set=image_set, places=(place,), holds=(images, table), get=get
        )
        photographs = [
            (folder / images / name, {"captions": captions})
            for name, captions in read(folder / table, split)[:limit]
        ]
        check_files([path for path, _ in photographs], required_by=folder / table)
        return DescribedPhotographs(
            image_set,
            photographs,
            label_sets={},
            official_length=official[split],
            no_instances="its photographs have captions only",
            names=[path.stem for path, _ in photographs],
        )

    return open_here


def read_karpathy(table: Path, split: str) -> list[tuple[str, list[str]]]:
    """Return the file names of a split in a file of Karpathy's ``caption_datasets.zip``, in order,
    with their captions.

    Raises:
        ValueError: the file cannot be read, or is another kind of file.
    """
    try:
        content = read_json(table, "karpathy", most=MAX_LISTING)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{table} is not one of Karpathy's files (images with filename, split and sentences "
            f"with raw): {error}"
        ) from error
    return [
        (image["filename"], [sentence["raw"] for sentence in image["sentences"]])
        for image in content["images"]
        if image["split"] == split
    ]


def imagenet_opener(
    image_set: str,
    *,
    places: Sequence[str],
    holds: Sequence[str],
    get: str,
    images: str = "",
    folders: Callable[[Table], Sequence[str]],
    suffix: str,
    expected: str,
    official_length: int,
) -> Callable[..., DescribedPhotographs]:
    """Return the ``open_here`` of photographs of ImageNet's 1,000 classes, in one folder a class.

    Args:
        image_set: name of the set.
        places: candidate folders under the root, the usual one first.
        holds: files or folders that one of them must hold; of names joined by ``|`` at least one.
        get: instruction for the message about a missing folder.
        images: folder of the class folders in that folder, not all of which need to exist.
        folders: returns the names of the class folders, in order of class, by ImageNet's table.
        suffix: ending of the photographs.
        expected: text after "expected" in the message about a folder with another name.
        official_length: number of images in the official split.
    """

    def open_here(
        *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
    ) -> DescribedPhotographs:
        """Open the only split, ``val``, in order of class and file name; ``limit`` keeps
        photographs spread evenly over the classes.

        Raises:
            ValueError: no root, unknown split or label set, no class folder, another folder, or a
                class folder without photographs.
        """
        select_split(image_set, split, known=("val",))
        folder = find_folder(root, image_set=image_set, places=places, holds=holds, get=get)
        folder /= images
        names = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if not names:
            raise ValueError(
                f"{image_set}: {folder} has no folders; its photographs must lie in one folder a "
                f"class, expected {expected}"
            )
        table = read_tables("imagenet")[IMAGENET]
        classes = {name: number for number, name in enumerate(folders(table))}
        for name in names:
            if name not in classes:
                raise ValueError(
                    f"{image_set}: {folder / name} is not a class folder; expected {expected}"
                )
        photographs = [
            (folder / name / f"{stem}{suffix}", {"class_label": classes[name]})
            for name in sorted(names, key=classes.__getitem__)
            for stem in list_files(folder / name, suffix)
        ]
        return DescribedPhotographs(
            image_set,
            evenly(photographs, limit),
            label_sets=select_label_sets({IMAGENET: table.labels}, label_sets),
            official_length=official_length,
        )

    return open_here
