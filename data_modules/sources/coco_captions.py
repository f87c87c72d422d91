"""COCO captions: ``annotations/captions_<split>.json`` with the folder ``<split>/``.  An image and
all its captions are one pair.

Pairs follow the order of the annotation file; captions of an unlisted image become a pair without
an image.
"""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.stores import ImageFiles, check_inside
from gestalt.data_modules.pairs import StoredPair
from gestalt.support.files import read_listing, short_digest


def read_captions(path: Path) -> tuple[list[tuple[str, list[Any]]], dict[Any, list[Any]]]:
    """Return the listed file names with their captions, in order, and the captions of unlisted
    images by image id, which is a number or a text.

    Raises:
        ValueError: no such file, a file of another kind or without images, or no caption of a
            listed image.
    """
    if not os.path.isfile(path):  # False for a name that is too long, too
        raise ValueError(
            f"coco_captions: no file {path}; data.root must hold annotations/captions_<split>.json "
            "and the folder <split>/"
        )
    try:
        content = read_listing(path)
        listed: dict[Any, str] = {}
        for image in content["images"]:
            name = image["file_name"]
            if not isinstance(name, str) or not name:
                raise TypeError(f"file_name {name!r} of image {image['id']!r} is not a name")
            if listed.setdefault(image["id"], name) != name:
                raise ValueError(
                    f"the images {listed[image['id']]!r} and {name!r} have the same id "
                    f"{image['id']!r}"
                )
        captions: dict[Any, list[Any]] = defaultdict(list)
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        expected = "images with id and file_name, annotations with image_id and caption"
        raise ValueError(
            f"coco_captions: {path} is not a COCO captions file ({expected}): {error!r}"
        ) from error
    pairs = [(name, captions.pop(number, [])) for number, name in listed.items()]
    if pairs and captions and not any(texts for _, texts in pairs):
        raise ValueError(
            f"coco_captions: {path}: no annotation belongs to an image; the first image_id is "
            f"{next(iter(captions))!r}, the first id of images {next(iter(listed))!r}"
        )
    if not pairs and not captions:
        raise ValueError(f"coco_captions: {path} lists no image")
    return pairs, captions


def open_here(
    *,
    root: str | None,
    captions: CaptionRule,
    split: str = "train2017",
    outside: bool = True,
) -> ImageFiles:
    """Open a split, such as ``train2017``; ``outside`` is False to refuse file names that lead out
    of the split's folder.

    Raises:
        ValueError: no root, no such file or folder, a file of another kind or without images, a
            name outside that is refused, or a caption column, which COCO lacks.
    """
    if root is None:
        raise ValueError(
            "coco_captions needs data.root, a folder with annotations/captions_train2017.json and "
            "train2017/"
        )
    if captions.column is not None:
        raise ValueError(
            f"data.caption={captions.column}: COCO captions have no columns; choose null"
        )
    images = Path(root) / split
    if not images.is_dir():
        raise ValueError(
            f"coco_captions: no folder {images}; data.root must hold "
            f"annotations/captions_{split}.json and {split}/"
        )
    annotations = Path(root) / "annotations" / f"captions_{split}.json"
    pairs, unlisted = read_captions(annotations)
    if not outside:
        check_inside((name for name, _ in pairs), table=annotations, folder=images)
    return ImageFiles(
        [(images / name, found) for name, found in pairs],
        digest=short_digest(json.dumps([*pairs, *((None, texts) for texts in unlisted.values())])),
        unlisted=[
            StoredPair(str(annotations), f"image_id {number}", b"", texts)
            for number, texts in unlisted.items()
        ],
    )
