"""ADE20K with 150 classes: the SceneParsing benchmark, the official layout.  H W pixels.

Get it from the MIT Scene Parsing Benchmark page: ``ADEChallengeData2016.zip``.  Development kit BSD-3; images for research and education.

``ADEChallengeData2016/{images,annotations}/{training,validation}``; masks are grey PNGs, 0 what is not scored, 1 to 150 the classes.
"""

from collections.abc import Sequence

from data_modules.folders import find_folder, list_files
from data_modules.image_sets import chosen
from data_modules.label_tables import read_tables
from data_modules.labelled_photographs import Files, LabelledPhotographs

_OFFICIAL = {"train": 20_210, "val": 2_000}
_FOLDERS = {"train": "training", "val": "validation"}


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
    tables = read_tables("ade20k")
    return LabelledPhotographs(
        "ade20k",
        [Files(name, images / f"{name}.jpg", mask=masks / f"{name}.png") for name in names[:limit]],
        listed_in="its pair",
        label_sets=chosen({key: table.labels for key, table in tables.items()}, label_sets),
        maps={key: table.maps["png"] for key, table in tables.items()},
        official_length=_OFFICIAL[split],
        no_instances="its masks do not tell objects apart",
    )
