"""PASCAL Context, in the layout of mmsegmentation, with 60 classes or the 59 without background.  H W pixels.

Photographs: ``VOCtrainval_03-May-2010.tar`` of the VOC 2010 page (md5 da459979d0c395079b5c75ee67908abb).  Annotations:
``trainval_merged.json`` of PASCAL in Detail (md5 3c2d0c0656b7be9eb61928ffe885d8ce), from which
``python -m data_modules.labels.context_masks`` or mmsegmentation's converter writes masks and lists.  For research.

``VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext,ImageSets/SegmentationContext}``; masks are grey PNGs, 0 what is none of the 59,
1 to 59 the classes in the order of the alphabet.
"""

from collections.abc import Sequence

from data_modules.image_sets import chosen
from data_modules.labels.folders import find_folder, read_list
from data_modules.labels.label_tables import read_tables
from data_modules.labels.labelled_photographs import Files, LabelledPhotographs

_OFFICIAL = {"train": (4_996, 4_998), "val": (5_104, 5_105)}
"""Images that the converter lists, and images of the annotation file: the reader that the converter uses loses some."""


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` takes the first photographs.

    Raises:
        ValueError: no root, no such split or label set, or a listed name whose image or mask is not there.
    """
    split = "val" if split is None else split
    if split not in _OFFICIAL:
        raise ValueError(f"pascal_context split {split!r} is unknown; known: {', '.join(_OFFICIAL)}")
    folder = find_folder(
        root,
        image_set="pascal_context",
        places=("VOCdevkit/VOC2010", "VOC2010"),
        holds=("ImageSets/SegmentationContext", "SegmentationClassContext"),
        get="unpack VOCtrainval_03-May-2010.tar there, then run python -m data_modules.labels.context_masks trainval_merged.json VOC2010",
    )
    listed = folder / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    images, masks = folder / "JPEGImages", folder / "SegmentationClassContext"
    names = read_list(listed)
    tables = read_tables("pascal_context")
    return LabelledPhotographs(
        "pascal_context",
        [Files(name, images / f"{name}.jpg", mask=masks / f"{name}.png") for name in names[:limit]],
        listed_in=listed,
        label_sets=chosen({key: table.labels for key, table in tables.items()}, label_sets),
        maps={key: table.maps["png"] for key, table in tables.items()},
        official_length=max(_OFFICIAL[split]) if len(names) == max(_OFFICIAL[split]) else min(_OFFICIAL[split]),
        no_instances="its masks do not tell objects apart",
    )
