"""COCO captions: ``annotations/captions_<split>.json`` with the folder ``<split>/``.  An image and all its captions are one pair."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.stored_pairs import Store, check_inside, read_stored
from data_modules.digest import short_digest
from data_modules.sources import Stored


class CocoCaptions(Store):
    """Images of a split with their captions, in the order of the annotation file."""

    def __init__(self, annotations: Path, *, images: Path, outside: bool = True) -> None:
        """Read the file; captions of an unlisted image become a pair without an image.

        Raises:
            ValueError: not found, or not a COCO captions file.
        """
        listed, captions = _read(annotations)
        if not outside:
            check_inside(listed.values(), table=annotations, folder=images)
        self._images = images
        self._file = annotations
        self._captions = captions
        unlisted = [number for number in captions if number not in listed]
        if listed and len(unlisted) == len(captions) > 0:
            raise ValueError(
                f"coco_captions: {annotations}: no annotation belongs to an image; the first image_id is {unlisted[0]!r}, "
                f"the first id of images {next(iter(listed))!r}"
            )
        self._pairs: list[tuple[Any, str | None]] = [*listed.items(), *((number, None) for number in unlisted)]
        if not self._pairs:
            raise ValueError(f"coco_captions: {annotations} lists no image")

    def __len__(self) -> int:
        return len(self._pairs)

    def digest(self) -> str:
        """Return the digest of the images' names and captions."""
        return short_digest(json.dumps([[name, self._captions.get(number, [])] for number, name in self._pairs]))

    def stored(self, index: int) -> Stored:
        """Read an image and its captions."""
        number, name = self._pairs[index]
        if name is None:
            raise BadSample(
                "missing_image", where=str(self._file), key=f"image_id {number}", detail="captions of an image that is not listed"
            )
        return read_stored(self._images / name, captions=self._captions.get(number))

    def described(self, index: int) -> Stored:
        """Return an image's captions."""
        number, name = self._pairs[index]
        return Stored(str(self._images), str(name), b"", self._captions.get(number))


def _read(path: Path) -> tuple[dict[Any, str], dict[Any, list[Any]]]:
    """Return file names and captions by image id, which is a number or a text."""
    if not os.path.isfile(path):  # False for a name that is too long, too
        raise ValueError(f"coco_captions: no file {path}; data.root must hold annotations/captions_<split>.json and the folder <split>/")
    try:
        content = json.loads(path.read_bytes())
        listed: dict[Any, str] = {}
        for image in content["images"]:
            name = image["file_name"]
            if not isinstance(name, str) or not name:
                raise TypeError(f"file_name {name!r} of image {image['id']!r} is not a name")
            if listed.setdefault(image["id"], name) != name:
                raise ValueError(f"the images {listed[image['id']]!r} and {name!r} have the same id {image['id']!r}")
        captions: dict[Any, list[Any]] = defaultdict(list)
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        expected = "images with id and file_name, annotations with image_id and caption"
        raise ValueError(f"coco_captions: {path} is not a COCO captions file ({expected}): {error!r}") from error
    return listed, dict(captions)


def open_here(*, root: str | None, captions: CaptionRule = ANY_CAPTION, split: str = "train2017", outside: bool = True) -> CocoCaptions:
    """Open a split, such as ``train2017``; ``outside`` is False to refuse file names that lead out of the split's folder.

    Raises:
        ValueError: no root, no such file or folder, a name outside that is refused, or a caption column, which COCO lacks.
    """
    if root is None:
        raise ValueError("coco_captions needs data.root, a folder with annotations/captions_train2017.json and train2017/")
    if captions.column is not None:
        raise ValueError(f"data.caption={captions.column}: COCO captions have no columns; choose null")
    images = Path(root) / split
    if not images.is_dir():
        raise ValueError(f"coco_captions: no folder {images}; data.root must hold annotations/captions_{split}.json and {split}/")
    return CocoCaptions(Path(root) / "annotations" / f"captions_{split}.json", images=images, outside=outside)
