"""ImageNet's validation photographs with 1,000 classes, in folders named by WordNet id.  H W
pixels.

Download ``ILSVRC2012_img_val.tar`` (md5 29b22e2961454d5413ddabcf34fc5622) from image-net.org after
registration.  For non-commercial research and education.  The tar is flat; the usual script
``valprep.sh`` sorts its photographs into ``val/<WordNet id>/*.JPEG``.

A class is the rank of its WordNet id among all 1,000, so missing folders do not change the others'
classes.
"""

from gestalt.data_modules.image_sets import select_label_sets, select_split
from gestalt.data_modules.labels.classified_photographs import (
    ClassifiedPhotographs,
    open_class_folders,
)
from gestalt.data_modules.labels.folders import find_folder
from gestalt.data_modules.labels.label_tables import read_tables

LABEL_SET = "imagenet_1000"


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> ClassifiedPhotographs:
    """Open ``val``; ``limit`` keeps photographs spread evenly over the classes.

    Raises:
        ValueError: no root, unknown split or label set, a flat folder, or a folder that is not
            named by one of the 1,000 WordNet ids.
    """
    select_split("imagenet", split, known=("val",), default="val")
    folder = find_folder(
        root,
        image_set="imagenet",
        places=("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        holds=("val",),
        get="sort ILSVRC2012_img_val.tar into val/<WordNet id>/ there",
    )
    table = read_tables("imagenet")[LABEL_SET]
    return open_class_folders(
        "imagenet",
        folder / "val",
        classes={name: rank for rank, name in enumerate(table.entry["folders"])},
        suffix=".JPEG",
        expected="one of the 1,000 WordNet ids, such as n01440764",
        limit=limit,
        label_sets=select_label_sets({LABEL_SET: table.labels}, label_sets),
        official_length=50_000,
    )
