"""ADE20K with 150 classes: the SceneParsing benchmark in the official layout.  H W pixels.

Download ``ADEChallengeData2016.zip`` from the MIT Scene Parsing Benchmark page.  Development kit
BSD-3; images for research and education.

``ADEChallengeData2016/{images,annotations}/{training,validation}``; masks are grey PNGs, 0 not
scored, 1 to 150 the classes. Objects of 100 classes are in another archive,
``annotations_instance.tar`` of the Places Challenge 2017, to be unpacked beside the masks; the
green channel of its PNGs numbers the objects.  Source: CSAILVision/placeschallenge,
instancesegmentation/README.md @ 0b8c1e2.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from gestalt.data_modules.image_sets import select_split
from gestalt.data_modules.labels.folders import find_folder
from gestalt.data_modules.labels.labelled_photographs import LabelledPhotographs, open_labelled
from gestalt.data_modules.labels.masks import objects, read_mask

_OFFICIAL = {"train": 20_210, "val": 2_000}
_FOLDERS = {"train": "training", "val": "validation"}


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Read the object numbers in the green channel; everything else is background."""
    numbers = read_mask(path, image=image, modes=("RGB",))[..., 1]
    return objects(
        numbers,
        kept=np.setdiff1d(numbers, [0]),
        void=np.zeros(numbers.shape, dtype=np.bool_),
        path=path,
    )


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` keeps the first photographs by name.

    Raises:
        ValueError: no root, unknown split or label set, an image without mask or a mask without
            image.
    """
    split = select_split("ade20k", split, known=_OFFICIAL, default="val")
    folder = find_folder(
        root,
        image_set="ade20k",
        places=("ADEChallengeData2016",),
        holds=(f"images/{_FOLDERS[split]}", f"annotations/{_FOLDERS[split]}"),
        get=(
            "unpack ADEChallengeData2016.zip there; the full ADE20K, whose masks end in _seg.png, "
            "is another set"
        ),
    )
    instances = folder / "annotations_instance" / _FOLDERS[split]
    return open_labelled(
        "ade20k",
        folder=folder,
        images=f"images/{_FOLDERS[split]}",
        masks=f"annotations/{_FOLDERS[split]}",
        table="ade20k",
        label_sets=label_sets,
        limit=limit,
        objects=instances,
        official_length=_OFFICIAL[split],
        no_instances=None if instances.is_dir() else f"no folder {instances}",
        read_objects=_read_objects,
    )
