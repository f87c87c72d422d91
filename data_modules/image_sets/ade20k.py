"""ADE20K with 150 classes: the SceneParsing benchmark in the official layout.  H W pixels.

``gestalt data get ade20k`` downloads ``ADEChallengeData2016.zip`` (1.0 GB) of the MIT Scene Parsing
Benchmark by its SHA-256.  Development kit BSD-3; images for research and education.

``ADEChallengeData2016/{images,annotations}/{training,validation}``; masks are grey PNGs, 0 not
scored, 1 to 150 the classes. Objects of 100 classes are in another archive,
``annotations_instance.tar`` of the Places Challenge 2017, to be unpacked beside the masks; the
green channel of its PNGs numbers the objects.  Source: CSAILVision/placeschallenge,
instancesegmentation/README.md @ 0b8c1e2.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from gestalt.data_modules.labels.labelled_photographs import opener_of
from gestalt.data_modules.labels.masks import objects, read_mask


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Read the object numbers in the green channel; everything else is background."""
    numbers = read_mask(path, image=image, modes=("RGB",))[..., 1]
    return objects(numbers, kept=np.setdiff1d(numbers, [0]), void=False, path=path)


open_here = opener_of(
    "ade20k",
    table="ade20k",
    official={"train": [20_210], "val": [2_000]},
    places=("ADEChallengeData2016",),
    get=(
        "unpack ADEChallengeData2016.zip there; the full ADE20K, whose masks end in _seg.png, "
        "is another set"
    ),
    images="images/{split}",
    masks="annotations/{split}",
    objects="annotations_instance/{split}",
    folders={"train": "training", "val": "validation"},
    read_objects=_read_objects,
)
