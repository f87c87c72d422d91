"""ADE20K with 847 classes: the full data set, as A-847 of open-vocabulary segmentation.  H W
pixels.

Register and download ``ADE20K_2021_17_01`` on the page of ADE20K
(groups.csail.mit.edu/vision/datasets/ADE20K); its masks, ``_seg.png``, have some 3,000
names.  MaskFormer's converter keeps 847 of them, scales photographs to a shorter side of at most
512 pixels, and writes ``ADE20K_2021_17_01/{images_detectron2,annotations_detectron2}/validation``:
16-bit grey TIFFs, 0 to 846 the classes, 65535 not scored.  Images for research and education.

Source: facebookresearch/MaskFormer, datasets/prepare_ade20k_full_sem_seg.py @ f2d27b2.
"""

from gestalt.data_modules.labels.labelled_photographs import opener_of

open_here = opener_of(
    "ade20k_full",
    table="ade20k",
    official={"val": [2_000]},
    places=("ADE20K_2021_17_01", "ade/ADE20K_2021_17_01"),
    get=(
        "unpack the full ADE20K there, and run MaskFormer's datasets/prepare_ade20k_full_sem_seg.py"
    ),
    images="images_detectron2/validation",
    masks="annotations_detectron2/validation",
    suffix=".tif",
)
