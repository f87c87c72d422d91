"""Every fake set: how it is drawn, what its values are called, and how it is spoilt.

Names of values come from the data sets' own lists, not from the tables that are tested: COCO's from
its annotation files and nightrome/cocostuff labels.txt, those of its groups from xu-ji/IIC
cocostuff_hierarchy.y @ 2f16a24, VOC's and ADE20K's from their development kits, the full ADE20K's
and Context's from the public code that their image sets name, Cityscapes' from cityscapesScripts
labels.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.data_modules.fakes.classified import draw_imagenet, draw_imagenet_v2, draw_waterbirds
from tests.data_modules.fakes.drawing import save_colours, save_mask
from tests.data_modules.fakes.masks import (
    SHAPES,
    draw_ade,
    draw_ade_full,
    draw_cityscapes,
    draw_context,
    draw_context_full,
    draw_curated,
    draw_stuff,
    draw_voc,
)
from tests.data_modules.fakes.panoptic import draw_panoptic


@dataclass(frozen=True)
class Fake:
    """One benchmark's fake.

    Attributes:
        draw: writes it under a root.
        names: value in the file -> its class, None where it is not scored.
        official: of the real set.
        photograph: one that is scored.
        truth: the file that says what is on it.
        wrong: writes a value that stands for nothing into ``truth``.
        complaint: what the error says of it.
        images: of the split that is scored.
    """

    draw: Callable[[Path], None]
    names: Mapping[int, str | None]
    official: int
    photograph: str
    truth: str
    wrong: Callable[[Path], None]
    complaint: str
    images: int = 3


def filled(value: int) -> Callable[[Path], None]:
    """A mask of one value; the photographs that it goes with are 33 x 50."""
    return lambda path: save_mask(path, np.full(SHAPES[0], value))


def _unknown_segment(path: Path) -> None:
    """A panoptic PNG that is all segment 3."""
    save_colours(path, np.broadcast_to([3, 0, 0], (*SHAPES[0], 3)))


def _renamed(name: str) -> Callable[[Path], None]:
    """A folder under another name."""

    def rename(path: Path) -> None:
        path.rename(path.with_name(name))

    return rename


def _cell(old: str, new: str) -> Callable[[Path], None]:
    """Text replaced."""

    def write(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return write


_VOC = {
    "draw": draw_voc,
    "official": 1_449,
    "photograph": "VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg",
    "truth": "VOCdevkit/VOC2012/SegmentationClass/2007_000000.png",
    "wrong": filled(38),  # what aeroplane is once a palette was turned into grey
    "complaint": r"holds values \[38\]; it must hold 0-20, 255 only",
}
_CONTEXT = {
    "draw": draw_context,
    "official": 5_104,
    "photograph": "VOCdevkit/VOC2010/JPEGImages/2008_000000.jpg",
    "truth": "VOCdevkit/VOC2010/SegmentationClassContext/2008_000000.png",
    "wrong": filled(60),
    "complaint": r"holds values \[60\]; it must hold 0-59",
}
_OBJECTS = {1: "aeroplane", 4: "boat", 20: "tvmonitor", 255: None}
_CONTEXT_CLASSES = {1: "aeroplane", 2: "bag", 55: "tvmonitor", 59: "wood"}
_THINGS = {0: "person", 10: "fire hydrant", 12: "stop sign", 89: "toothbrush"}
_STUFF = {
    "draw": draw_stuff,
    "official": 5_000,
    "photograph": "val2017/000000000139.jpg",
    "truth": "stuffthingmaps_trainval2017/val2017/000000000139.png",
    "wrong": filled(11),  # street sign, which nobody drew
    "complaint": r"holds values \[11\]; it must hold 0-10, 12-24",
}
_GROUPS = {
    0: "person-things",
    10: "outdoor-things",
    12: "outdoor-things",
    89: "indoor-things",
    91: "textile-stuff",
    181: "solid-stuff",
    255: None,
}
_CITYSCAPES = {
    "draw": draw_cityscapes,
    "official": 500,
    "photograph": "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png",
    "truth": "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png",
    "wrong": filled(34),
    "complaint": r"holds values \[34\]; it must hold 0-33 only",
}

SEGMENTED: dict[str, Fake] = {
    "pascal_voc": Fake(**_VOC, names={0: "background", **_OBJECTS}),
    "pascal_voc20": Fake(**_VOC, names={0: None, **_OBJECTS}),
    "pascal_context60": Fake(**_CONTEXT, names={0: "background", **_CONTEXT_CLASSES}),
    "pascal_context59": Fake(**_CONTEXT, names={0: None, **_CONTEXT_CLASSES}),
    "ade20k": Fake(
        draw=draw_ade,
        names={0: None, 1: "wall", 90: "television receiver", 150: "flag"},
        official=2_000,
        photograph="ADEChallengeData2016/images/validation/ADE_val_00000001.jpg",
        truth="ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
        wrong=filled(151),
        complaint=r"holds values \[151\]; it must hold 0-150 only",
    ),
    "ade20k_847": Fake(
        draw=draw_ade_full,
        names={
            0: "wall",
            254: "dome",
            255: "pier",
            256: "shanties",
            846: "adding machine",
            65_535: None,
        },
        official=2_000,
        photograph="ADE20K_2021_17_01/images_detectron2/validation/ADE_val_00000001.jpg",
        truth="ADE20K_2021_17_01/annotations_detectron2/validation/ADE_val_00000001.tif",
        wrong=filled(847),
        complaint=r"holds values \[847\]; it must hold 0-846, 65535 only",
    ),
    "pascal_context459": Fake(
        draw=draw_context_full,
        names={0: "accordion", 255: "monkey", 257: "motorbike", 458: "wool", 65_535: None},
        official=5_104,
        photograph="VOCdevkit/VOC2010/JPEGImages/2008_000000.jpg",
        truth="VOCdevkit/VOC2010/annotations_detectron2/pc459_val/2008_000000.tif",
        wrong=filled(459),
        complaint=r"holds values \[459\]; it must hold 0-458, 65535 only",
    ),
    "coco_object": Fake(
        **_STUFF,
        names=_THINGS | dict.fromkeys((91, 181, 255), "background"),
    ),
    "coco_stuff": Fake(**_STUFF, names=_THINGS | {91: "banner", 181: "wood", 255: None}),
    "coco27": Fake(**_STUFF, names=_GROUPS),
    "coco27_curated": Fake(
        **_STUFF | {"draw": draw_curated, "images": 2, "official": 2_175}, names=_GROUPS
    ),
    "coco_panoptic": Fake(
        draw=draw_panoptic,
        names={
            0: None,
            1: "person",
            13: "stop sign",
            90: "toothbrush",
            92: "banner",
            200: "rug-merged",
        },
        official=5_000,
        photograph="val2017/000000000139.jpg",
        truth="annotations/panoptic_val2017/000000000139.png",
        wrong=_unknown_segment,
        complaint=r"holds segments \[3\] that .*panoptic_val2017\.json does not list",
    ),
    "cityscapes": Fake(
        **_CITYSCAPES, names={0: None, 6: None, 7: "road", 9: None, 26: "car", 33: "bicycle"}
    ),
    "cityscapes27": Fake(
        **_CITYSCAPES, names={0: None, 6: None, 7: "road", 9: "parking", 26: "car", 33: "bicycle"}
    ),
}
"""Benchmarks of label maps."""

CLASSIFIED: dict[str, Fake] = {
    "imagenet": Fake(
        draw=draw_imagenet,
        names={0: "tench", 65: "sea snake", 999: "toilet paper"},
        images=6,
        official=50_000,
        photograph="imagenet/val/n01440764/ILSVRC2012_val_00000000.JPEG",
        truth="imagenet/val/n01440764",
        wrong=_renamed("n01440765"),
        complaint=r"val/n01440765 is not a class folder; expected one of the 1,000 WordNet ids",
    ),
    "imagenet_v2": Fake(
        draw=draw_imagenet_v2,
        names={
            0: "tench",
            1: "goldfish",
            2: "great white shark",
            10: "brambling",
            100: "black swan",
            999: "toilet paper",
        },
        images=6,
        official=10_000,
        photograph=f"imagenetv2-matched-frequency-format-val/10/{10:040x}.jpeg",
        truth="imagenetv2-matched-frequency-format-val/10",
        wrong=_renamed("n01440764"),
        complaint=r"format-val/n01440764 is not a class folder; expected a number from 0 to 999",
    ),
    "waterbirds": Fake(
        draw=draw_waterbirds,
        names={0: "landbird", 1: "landbird", 10: "waterbird", 11: "waterbird"},
        images=6,
        official=5_794,
        photograph="waterbird_complete95_forest2water2/012.Bird/Bird_12.jpg",
        truth="waterbird_complete95_forest2water2/metadata.csv",
        wrong=_cell("Bird_12.jpg,0,2,1", "Bird_12.jpg,0,3,1"),
        complaint=r"metadata\.csv, row \d+: split is '3', not one of 0, 1, 2",
    ),
}
"""Benchmarks of one class a photograph."""
