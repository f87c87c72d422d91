"""PASCAL VOC 2012 segmentation in the official layout, with 21 classes or the 20 without
background.  H W pixels.

``gestalt data get pascal_voc`` downloads ``VOCtrainval_11-May-2012.tar`` (2.0 GB) from its host
since 2025, thor.robots.ox.ac.uk, or a mirror, by its SHA-256.  Photographs from Flickr, under
Flickr's terms; for research.

``VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,SegmentationObject,ImageSets/Segmentation}``;
masks are palette PNGs whose values are the classes, or the objects from 1 on, and 255 the void
border.  Grey masks with the same values, as in SBD, are accepted.
"""

from gestalt.data_modules.labels.labelled_photographs import opener_of

open_here = opener_of(
    "pascal_voc",
    table="pascal_voc",
    official={"train": [1_464], "val": [1_449], "trainval": [2_913]},
    places=("VOCdevkit/VOC2012", "VOC2012"),
    get="unpack VOCtrainval_11-May-2012.tar there",
    images="JPEGImages",
    masks="SegmentationClass",
    listed="ImageSets/Segmentation/{split}.txt",
    objects="SegmentationObject",
)
