"""PASCAL VOC 2012 segmentation in the official layout, with 21 classes or the 20 without
background.  H W pixels.

``gestalt data get pascal_voc`` downloads ``VOCtrainval_11-May-2012.tar`` (2.0 GB) from its host
since 2025, thor.robots.ox.ac.uk, or a mirror, by its SHA-256.  Photographs from Flickr, under
Flickr's terms; for research.

``VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,SegmentationObject,ImageSets/Segmentation}``;
masks are palette PNGs whose values are the classes, 255 the void border.  Grey masks with the same
values, as in SBD, are accepted.
"""

from pathlib import Path

import torch
from torch import Tensor

from gestalt.data_modules.labels.labelled_photographs import opener_of
from gestalt.data_modules.labels.masks import read_mask


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Read the stored numbers: 0 background, 1..n the objects, 255 void."""
    return torch.from_numpy(read_mask(path, image=image))


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
    read_objects=_read_objects,
)
