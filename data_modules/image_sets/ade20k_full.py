"""ADE20K with 847 classes: the full data set, as A-847 of open-vocabulary segmentation.  H W
pixels.

Register and download ``ADE20K_2021_17_01`` on the page of ADE20K
(groups.csail.mit.edu/vision/datasets/ADE20K); its masks, ``_seg.png``, have some 3,000
names.  MaskFormer's converter keeps 847 of them, scales photographs to a shorter side of at most
512 pixels, and writes ``ADE20K_2021_17_01/{images_detectron2,annotations_detectron2}/validation``:
16-bit grey TIFFs, 0 to 846 the classes, 65535 not scored.  Images for research and education.

Source: facebookresearch/MaskFormer, datasets/prepare_ade20k_full_sem_seg.py @ f2d27b2.
"""

from gestalt.data_modules.image_sets import select_split
from gestalt.data_modules.labels.folders import find_folder
from gestalt.data_modules.labels.labelled_photographs import LabelledPhotographs, open_labelled
from gestalt.data_modules.labels.masks import SIXTEEN_BITS

_OFFICIAL = {"val": 2_000}
_IMAGES, _MASKS = "images_detectron2/validation", "annotations_detectron2/validation"


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val``; ``limit`` keeps the first photographs by name.

    Raises:
        ValueError: no root, unknown split or label set, an image without mask or a mask without
            image.
    """
    split = select_split("ade20k_full", split, known=_OFFICIAL, default="val")
    folder = find_folder(
        root,
        image_set="ade20k_full",
        places=("ADE20K_2021_17_01", "ade/ADE20K_2021_17_01"),
        holds=(_IMAGES, _MASKS),
        get=(
            "unpack the full ADE20K there, and run MaskFormer's "
            "datasets/prepare_ade20k_full_sem_seg.py"
        ),
    )
    return open_labelled(
        "ade20k_full",
        folder=folder,
        images=_IMAGES,
        masks=_MASKS,
        table="ade20k",
        label_sets=label_sets,
        limit=limit,
        suffix=".tif",
        official_length=_OFFICIAL[split],
        modes=SIXTEEN_BITS,
    )
