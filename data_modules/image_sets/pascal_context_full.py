"""PASCAL Context with 459 classes, as PC-459 of open-vocabulary segmentation.  H W pixels.

Photographs: ``gestalt data get pascal_context_images``.  Annotations: ``trainval.tar.gz`` of the
PASCAL-Context page, now at roozbehm.info/pascal-context, a ``.mat`` for each image with the numbers
1 to 459 of ``labels.txt``.  CAT-Seg's converter writes those of its list,
``VOCdevkit/VOC2010/pascalcontext_val.txt``, which is not in the archive, to
``VOCdevkit/VOC2010/annotations_detectron2/pc459_val``: 16-bit grey TIFFs, the number minus one, so
that 0, a pixel without number, becomes 65535, which is not scored.  For research.

Source: cvlab-kaist/CAT-Seg, datasets/prepare_pascal_context_459.py @ dc295ee; NVlabs/ODISE,
datasets/prepare_pascal_ctx_full_sem_seg.py @ e7192c9, writes the same values.
"""

from gestalt.data_modules.labels.labelled_photographs import opener_of

open_here = opener_of(
    "pascal_context_full",
    table="pascal_context",
    official={"val": [5_104]},
    places=("VOCdevkit/VOC2010", "VOC2010"),
    get=(
        "unpack VOCtrainval_03-May-2010.tar and trainval.tar.gz there, and run CAT-Seg's "
        "datasets/prepare_pascal_context_459.py"
    ),
    images="JPEGImages",
    masks="annotations_detectron2/pc459_val",
    suffix=".tif",
    listed="pascalcontext_val.txt",
)
