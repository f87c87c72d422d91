"""Tiny sets with one mask a photograph, in their official layouts: VOC, Context, ADE20K,
Cityscapes, COCO-Stuff.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.data_modules.fakes.drawing import (
    Values,
    blocks,
    save_colours,
    save_mask,
    save_photograph,
    write_list,
)

SHAPES = ((33, 50), (50, 33), (40, 45))
"""Height and width of three photographs."""


def draw_pairs(
    root: Path, photograph: str, mask: str, *, values: Sequence[int], first: int = 0
) -> list[Values]:
    """Three photographs and their masks, whose paths have the number of each, from ``first``.
    Returns what is on them.
    """
    drawn = [blocks(values, shape=shape, seed=seed) for seed, shape in enumerate(SHAPES)]
    for number, shown in enumerate(drawn, start=first):
        save_photograph(root / photograph.format(number), shown)
        save_mask(root / mask.format(number), shown)
    return drawn


def draw_voc(root: Path) -> None:
    """Three photographs in val.txt and one that is not; palette masks, and a grey one as SBD's;
    objects.
    """
    folder = root / "VOCdevkit/VOC2012"
    for number, shape in enumerate((*SHAPES, (20, 20))):
        name = f"2007_00000{number}"
        values = blocks([0, 1, 4, 20, 255], shape=shape, seed=number)
        save_photograph(folder / f"JPEGImages/{name}.jpg", values)
        save_mask(folder / f"SegmentationClass/{name}.png", values, palette=number != 1)
        objects = np.where(values == 20, 2, np.where(values == 4, 1, 0))
        save_mask(folder / f"SegmentationObject/{name}.png", objects, palette=True)
    names = [f"2007_00000{number}" for number in (2, 0, 1)]
    write_list(folder / "ImageSets/Segmentation/val.txt", names)


CONTEXT_PHOTOGRAPH = "JPEGImages/2008_00000{}.jpg"
CONTEXT_NAMES = [f"2008_00000{number}" for number in range(3)]


def draw_context(root: Path) -> None:
    """Three photographs in val.txt."""
    folder = root / "VOCdevkit/VOC2010"
    masks = "SegmentationClassContext/2008_00000{}.png"
    draw_pairs(folder, CONTEXT_PHOTOGRAPH, masks, values=[0, 1, 2, 55, 59])
    write_list(folder / "ImageSets/SegmentationContext/val.txt", CONTEXT_NAMES)


def draw_ade(root: Path) -> None:
    """Three validation photographs, one training photograph."""
    folder = root / "ADEChallengeData2016"
    photographs = "images/validation/ADE_val_0000000{}.jpg"
    masks = "annotations/validation/ADE_val_0000000{}.png"
    drawn = draw_pairs(folder, photographs, masks, values=[0, 1, 90, 150], first=1)
    for number, values in enumerate(drawn, start=1):
        objects = np.where(values == 90, 7, np.where(values == 150, 200, 0))
        numbered = np.stack([values % 101, objects, np.zeros_like(values)], axis=-1)
        place = f"annotations_instance/validation/ADE_val_0000000{number}.png"
        save_colours(folder / place, numbered)
    save_photograph(folder / "images/training/ADE_train_00000001.jpg", values)
    save_mask(folder / "annotations/training/ADE_train_00000001.png", values)


def draw_ade_full(root: Path) -> None:
    """Three validation photographs; classes on both sides of what one byte holds."""
    draw_pairs(
        root / "ADE20K_2021_17_01",
        "images_detectron2/validation/ADE_val_0000000{}.jpg",
        "annotations_detectron2/validation/ADE_val_0000000{}.tif",
        values=[0, 254, 255, 256, 846, 65_535],
        first=1,
    )


def draw_context_full(root: Path) -> None:
    """Three photographs in the list, and one that is not."""
    folder, values = root / "VOCdevkit/VOC2010", [0, 255, 257, 458, 65_535]
    masks = "annotations_detectron2/pc459_val/2008_00000{}.tif"
    draw_pairs(folder, CONTEXT_PHOTOGRAPH, masks, values=values)
    unlisted = blocks(values, shape=(20, 20), seed=3)
    save_photograph(folder / CONTEXT_PHOTOGRAPH.format(3), unlisted)
    write_list(folder / "pascalcontext_val.txt", CONTEXT_NAMES)


def draw_cityscapes(root: Path) -> None:
    """Two cities; labelIds and instanceIds, and files beside them that a reader must ignore."""
    frames = (
        ("frankfurt", "frankfurt_000000_000294"),
        ("lindau", "lindau_000000_000019"),
        ("lindau", "lindau_000001_000019"),
    )
    for number, ((city, frame), shape) in enumerate(zip(frames, SHAPES, strict=True)):
        values = blocks([0, 6, 7, 9, 26, 33], shape=shape, seed=number)
        save_photograph(root / f"leftImg8bit/val/{city}/{frame}_leftImg8bit.png", values)
        truth = root / f"gtFine/val/{city}"
        save_mask(truth / f"{frame}_gtFine_labelIds.png", values)
        instances = np.where(values == 33, 33_001, np.where(values == 26, 26_000, values))
        instances[0, values[0] == 26] = 26  # a group of cars without separate instances
        save_mask(truth / f"{frame}_gtFine_instanceIds.png", instances)
        (truth / f"{frame}_gtFine_polygons.json").write_text("{}")


def draw_stuff(root: Path) -> None:
    """Photographs and COCO-Stuff maps, with a stale conversion beside one."""
    photographs, maps = "val2017/{:012}.jpg", "stuffthingmaps_trainval2017/val2017/{:012}.png"
    draw_pairs(root, photographs, maps, values=[0, 10, 12, 89, 91, 181, 255], first=139)
    stale = (root / maps.format(139)).with_stem(f"{139:012}_labelTrainIds")
    save_mask(stale, np.zeros(SHAPES[0], dtype=np.uint8))


def draw_curated(root: Path) -> None:
    """The same, and the list that names two of them."""
    draw_stuff(root)
    names = [f"{number:012}" for number in (139, 141)]
    write_list(root / "curated/val2017/Coco164kFull_Stuff_Coarse_7.txt", names)
