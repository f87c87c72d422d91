"""PASCAL Context in the layout of mmsegmentation, with 60 classes or the 59 without background.  H
W pixels.

Photographs: ``VOCtrainval_03-May-2010.tar`` of the VOC 2010 page (md5
da459979d0c395079b5c75ee67908abb).  Annotations: ``trainval_merged.json`` of PASCAL in Detail (md5
3c2d0c0656b7be9eb61928ffe885d8ce), from which ``python -m
gestalt.data_modules.labels.context_masks`` or mmsegmentation's converter writes masks and
lists.  For research.

``VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext,ImageSets/SegmentationContext}``; masks are
grey PNGs, 0 none of the 59, 1 to 59 the classes in alphabetical order.
"""

from gestalt.data_modules.image_sets import select_split
from gestalt.data_modules.labels.folders import find_folder, read_list
from gestalt.data_modules.labels.labelled_photographs import LabelledPhotographs, open_labelled

_OFFICIAL = {"train": (4_996, 4_998), "val": (5_104, 5_105)}
"""Numbers of images that mmsegmentation's converter lists, and that the annotation file has: the
converter's reader loses some.
"""


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` keeps the first photographs.

    Raises:
        ValueError: no root, unknown split or label set, or a listed image or mask that is missing.
    """
    split = select_split("pascal_context", split, known=_OFFICIAL, default="val")
    folder = find_folder(
        root,
        image_set="pascal_context",
        places=("VOCdevkit/VOC2010", "VOC2010"),
        holds=("ImageSets/SegmentationContext", "SegmentationClassContext"),
        get="unpack VOCtrainval_03-May-2010.tar there, then run"
        " python -m gestalt.data_modules.labels.context_masks trainval_merged.json VOC2010",
    )
    listed = folder / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    converted, whole = _OFFICIAL[split]
    return open_labelled(
        "pascal_context",
        folder=folder,
        images="JPEGImages",
        masks="SegmentationClassContext",
        table="pascal_context",
        label_sets=label_sets,
        limit=limit,
        listed=listed,
        official_length=whole if len(read_list(listed)) == whole else converted,
    )
