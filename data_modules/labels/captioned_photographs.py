"""Photographs with captions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from gestalt.data_modules.labels.described_photographs import DescribedPhotographs
from gestalt.data_modules.labels.folders import check_files, find_folder
from gestalt.data_modules.labels.image_set import (
    select_label_sets,
    select_split,
)
from gestalt.support.files import MAX_LISTING, read_json


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
