"""PASCAL Context in the layout of mmsegmentation, with 60 classes or the 59 without background.  H
W pixels.

``gestalt data get pascal_context_images pascal_context_masks`` downloads the photographs,
``VOCtrainval_03-May-2010.tar`` (thor.robots.ox.ac.uk), and ``trainval_merged.json`` of PASCAL in
Detail, of which only the Wayback Machine has a copy, both by their MD5, and writes masks and lists
as mmsegmentation's converter does.  For research.

``VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext,ImageSets/SegmentationContext}``; masks are
grey PNGs, 0 none of the 59, 1 to 59 the classes in alphabetical order.
"""

from gestalt.data_modules.labels.labelled_photographs import opener_of

# mmsegmentation's converter, whose reader loses some photographs, lists the first numbers; the
# annotation file has the second
_OFFICIAL = {"train": [4_996, 4_998], "val": [5_104, 5_105]}

open_here = opener_of(
    "pascal_context",
    table="pascal_context",
    official=_OFFICIAL,
    places=("VOCdevkit/VOC2010", "VOC2010"),
    get="run `gestalt data get pascal_context_images pascal_context_masks`",
    images="JPEGImages",
    masks="SegmentationClassContext",
    listed="ImageSets/SegmentationContext/{split}.txt",
)
