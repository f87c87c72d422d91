"""PASCAL VOC 2012 segmentation in the official layout, with 21 classes or the 20 without
background.  H W pixels.

Download ``VOCtrainval_11-May-2012.tar`` (2 GB, md5 6cd6e144f989b92b3379bac3b3de84fd) from the VOC
2012 page of Oxford's robots group. Photographs from Flickr, under Flickr's terms; for research.

``VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,SegmentationObject,ImageSets/Segmentation}``;
masks are palette PNGs whose values are the classes, 255 the void border.  Grey masks with the same
values, as in SBD, are accepted.
"""

from pathlib import Path

from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet, select_label_sets, select_split
from gestalt.data_modules.labels.folders import find_folder, read_list
from gestalt.data_modules.labels.labelled_photographs import LabelledPhotographs, files_by_name
from gestalt.data_modules.labels.masks import ValueMap, read_mask

_OFFICIAL = {"train": 1_464, "val": 1_449, "trainval": 2_913}

_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

_PHRASES = {
    "diningtable": "table",
    "pottedplant": "potted plant",
    "tvmonitor": "television monitor",
}

_CONTEXT = (
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup",
    "door", "fence", "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain",
    "mouse", "curtain", "platform", "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky",
    "snow", "bedclothes", "track", "tree", "truck", "wall", "water", "window", "wood",
)  # fmt: skip

_PLAIN = tuple((_PHRASES.get(name, name),) for name in _NAMES[1:])

LABELS = {
    "voc21": LabelSet(names=_NAMES, prompts=(("background", *_CONTEXT), *_PLAIN), background=0),
    "voc20": LabelSet(names=_NAMES[1:], prompts=_PLAIN, background=None),
}
"""21 classes named by 60 phrases, 39 context words of which name the background.  Source: public
CLIPpy code, its VOC evaluation.
"""

_MAPS = {
    "voc21": ValueMap({value: value for value in range(21)}, ignored=[255]),
    "voc20": ValueMap({value: value - 1 for value in range(1, 21)}, ignored=[0, 255]),
}
_OBJECTS = ValueMap({value: value for value in range(255)}, ignored=[255])


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Read the stored numbers: 0 background, 1..n the objects, 255 void."""
    return _OBJECTS(read_mask(path, image=image), path=path)


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val`` (default), ``train`` or ``trainval``; ``limit`` keeps the first photographs.

    Raises:
        ValueError: no root, unknown split or label set, or a listed image or mask that is missing.
    """
    split = select_split("pascal_voc", split, known=_OFFICIAL, default="val")
    folder = find_folder(
        root,
        image_set="pascal_voc",
        places=("VOCdevkit/VOC2012", "VOC2012"),
        holds=("ImageSets/Segmentation",),
        get="unpack VOCtrainval_11-May-2012.tar there",
    )
    listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    objects = folder / "SegmentationObject"
    return LabelledPhotographs(
        "pascal_voc",
        files_by_name(
            read_list(listed)[:limit],
            images=folder / "JPEGImages",
            masks=folder / "SegmentationClass",
            objects=objects,
        ),
        required_by=listed,
        label_sets=select_label_sets(LABELS, label_sets),
        maps=_MAPS,
        official_length=_OFFICIAL[split],
        no_instances=None if objects.is_dir() else f"no folder {objects}",
        read_objects=_read_objects,
    )
