"""ADE20K with 150 classes: the SceneParsing benchmark, the official layout.  H W pixels.

Get it from the MIT Scene Parsing Benchmark page: ``ADEChallengeData2016.zip``.  Development kit BSD-3; images for research and education.

``ADEChallengeData2016/{images,annotations}/{training,validation}``; masks are grey PNGs, 0 what is not scored, 1 to 150 the classes.
Objects of 100 classes are an archive of their own, ``annotations_instance.tar`` of the Places Challenge 2017: unpacked beside the others,
the green channel of its PNGs numbers them.  Source: CSAILVision/placeschallenge, instancesegmentation/README.md @ 0b8c1e2.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from data_modules.image_sets import chosen
from data_modules.labels.folders import find_folder, list_files
from data_modules.labels.label_tables import read_tables
from data_modules.labels.labelled_photographs import Files, LabelledPhotographs
from data_modules.labels.masks import objects, read_mask

_OFFICIAL = {"train": 20_210, "val": 2_000}
_FOLDERS = {"train": "training", "val": "validation"}


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Objects are numbered in green; the rest, what nobody told apart included, is background."""
    numbers = read_mask(path, image=image, modes=("RGB",))[..., 1]
    return objects(numbers, kept=np.setdiff1d(numbers, [0]), void=np.zeros(numbers.shape, dtype=np.bool_), path=path)


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` takes the first photographs by name.

    Raises:
        ValueError: no root, no such split or label set, an image without its mask or a mask without its image.
    """
    split = "val" if split is None else split
    if split not in _OFFICIAL:
        raise ValueError(f"ade20k split {split!r} is unknown; known: {', '.join(_OFFICIAL)}")
    folder = find_folder(
        root,
        image_set="ade20k",
        places=("ADEChallengeData2016",),
        holds=(f"images/{_FOLDERS[split]}", f"annotations/{_FOLDERS[split]}"),
        get="unpack ADEChallengeData2016.zip there; the full ADE20K, whose masks end in _seg.png, is another set",
    )
    images, masks = folder / "images" / _FOLDERS[split], folder / "annotations" / _FOLDERS[split]
    names = sorted({*list_files(images, suffix=".jpg"), *list_files(masks, suffix=".png")})
    things = folder / "annotations_instance" / _FOLDERS[split]
    photographs = [
        Files(name, images / f"{name}.jpg", mask=masks / f"{name}.png", objects=things / f"{name}.png" if things.is_dir() else None)
        for name in names[:limit]
    ]
    tables = read_tables("ade20k")
    return LabelledPhotographs(
        "ade20k",
        photographs,
        listed_in="its pair",
        label_sets=chosen({key: table.labels for key, table in tables.items()}, label_sets),
        maps={key: table.maps["png"] for key, table in tables.items()},
        official_length=_OFFICIAL[split],
        no_instances=None if things.is_dir() else f"there is no folder {things}",
        read_objects=_read_objects,
    )
