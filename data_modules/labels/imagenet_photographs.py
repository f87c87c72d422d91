"""Photographs of ImageNet's 1,000 classes, in one folder a class."""

from collections.abc import Callable, Sequence

from gestalt.data_modules.labels.class_tables import Table, read_tables
from gestalt.data_modules.labels.described_photographs import DescribedPhotographs, evenly
from gestalt.data_modules.labels.folders import find_folder, list_files
from gestalt.data_modules.labels.image_set import (
    select_label_sets,
    select_split,
)

IMAGENET = "imagenet_1000"


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
                f"{image_set}: {folder} has no folders; its photographs must be in one folder per "
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
            for name in sorted(names, key=lambda name: classes[name])
            for stem in list_files(folder / name, suffix)
        ]
        return DescribedPhotographs(
            image_set,
            evenly(photographs, limit),
            label_sets=select_label_sets({IMAGENET: table.labels}, label_sets),
            official_length=official_length,
        )

    return open_here
