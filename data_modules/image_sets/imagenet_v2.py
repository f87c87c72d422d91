"""ImageNet-V2, matched frequency: 10,000 new photographs of ImageNet's 1,000 classes.  H W pixels.

Download ``imagenetv2-matched-frequency.tar.gz`` from the hub (vaishaal/ImageNetV2), linked from
modestyachts/ImageNetV2.  Code MIT; images as ImageNet's.

``imagenetv2-matched-frequency-format-val/<class>/*.jpeg``.  A class is its folder's name as a
number; sorted as text, "10" would precede "2".
"""

from gestalt.data_modules.image_sets import select_label_sets, select_split
from gestalt.data_modules.image_sets.imagenet import LABEL_SET
from gestalt.data_modules.labels.classified_photographs import (
    ClassifiedPhotographs,
    open_class_folders,
)
from gestalt.data_modules.labels.folders import find_folder
from gestalt.data_modules.labels.label_tables import read_tables

_FOLDER = "imagenetv2-matched-frequency-format-val"


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> ClassifiedPhotographs:
    """Open the only split, ``val``; ``limit`` keeps photographs spread evenly over the classes.

    Raises:
        ValueError: no root, unknown split or label set, or a folder that is not named by a number
            from 0 to 999.
    """
    select_split("imagenet_v2", split, known=("val",), default="val")
    folder = find_folder(
        root,
        image_set="imagenet_v2",
        places=(_FOLDER, f"imagenet_v2/{_FOLDER}", "imagenet_v2"),
        holds=("0|1|2|10|100|999",),
        get="unpack imagenetv2-matched-frequency.tar.gz there",
    )
    table = read_tables("imagenet")[LABEL_SET]
    return open_class_folders(
        "imagenet_v2",
        folder,
        classes={str(number): number for number in range(len(table.labels.names))},
        suffix=".jpeg",
        expected="a number from 0 to 999 (WordNet ids: another release)",
        limit=limit,
        label_sets=select_label_sets({LABEL_SET: table.labels}, label_sets),
        official_length=10_000,
    )
