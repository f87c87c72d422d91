"""PASCAL Context with 459 classes, as PC-459 of open-vocabulary segmentation.  H W pixels.

Photographs: ``VOCtrainval_03-May-2010.tar`` of the VOC 2010 page (md5
da459979d0c395079b5c75ee67908abb).  Annotations: ``trainval.tar.gz`` of the PASCAL-Context page, a
``.mat`` for each image with the numbers 1 to 459 of ``labels.txt``.  CAT-Seg's converter writes
those of its list, ``VOCdevkit/VOC2010/pascalcontext_val.txt``, to
``VOCdevkit/VOC2010/annotations_detectron2/pc459_val``: 16-bit grey TIFFs, the number minus one, so
that 0, a pixel without number, becomes 65535, which is not scored.  For research.

Source: cvlab-kaist/CAT-Seg, datasets/prepare_pascal_context_459.py @ dc295ee; NVlabs/ODISE,
datasets/prepare_pascal_ctx_full_sem_seg.py @ e7192c9, writes the same values.
"""

from gestalt.data_modules.image_sets import select_split
from gestalt.data_modules.labels.folders import find_folder
from gestalt.data_modules.labels.labelled_photographs import LabelledPhotographs, open_labelled
from gestalt.data_modules.labels.masks import SIXTEEN_BITS

_OFFICIAL = {"val": 5_104}


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val``; ``limit`` keeps the first photographs of the list.

    Raises:
        ValueError: no root, unknown split or label set, or a listed image or mask that is missing.
    """
    split = select_split("pascal_context_full", split, known=_OFFICIAL, default="val")
    folder = find_folder(
        root,
        image_set="pascal_context_full",
        places=("VOCdevkit/VOC2010", "VOC2010"),
        holds=(f"pascalcontext_{split}.txt", f"annotations_detectron2/pc459_{split}"),
        get=(
            "unpack VOCtrainval_03-May-2010.tar and trainval.tar.gz there, and run CAT-Seg's "
            "datasets/prepare_pascal_context_459.py"
        ),
    )
    return open_labelled(
        "pascal_context_full",
        folder=folder,
        images="JPEGImages",
        masks=f"annotations_detectron2/pc459_{split}",
        table="pascal_context",
        label_sets=label_sets,
        limit=limit,
        suffix=".tif",
        listed=folder / f"pascalcontext_{split}.txt",
        official_length=_OFFICIAL[split],
        modes=SIXTEEN_BITS,
    )
