"""Tiny sets with one mask a photograph, in their official layouts: VOC, Context, ADE20K,
Cityscapes, COCO-Stuff.
"""

from pathlib import Path

import numpy as np

from tests.data_modules.fakes.drawing import (
    blocks,
    save_colours,
    save_mask,
    save_photograph,
    write_list,
)

SHAPES = ((33, 50), (50, 33), (40, 45))
"""Height and width of three photographs."""


def draw_voc(root: Path) -> None:
    """Three photographs in val.txt and one that is not; palette masks, and a grey one as SBD's;
    objects.
    """
    folder = root / "VOCdevkit" / "VOC2012"
    for number, shape in enumerate((*SHAPES, (20, 20))):
        name = f"2007_00000{number}"
        values = blocks([0, 1, 4, 20, 255], shape=shape, seed=number)
        save_photograph(folder / "JPEGImages" / f"{name}.jpg", values)
        save_mask(folder / "SegmentationClass" / f"{name}.png", values, palette=number != 1)
        save_mask(
            folder / "SegmentationObject" / f"{name}.png",
            np.where(values == 20, 2, np.where(values == 4, 1, 0)),
            palette=True,
        )
    write_list(
        folder / "ImageSets" / "Segmentation" / "val.txt",
        [f"2007_00000{number}" for number in (2, 0, 1)],
    )


def draw_context(root: Path) -> None:
    """Three photographs in val.txt."""
    folder = root / "VOCdevkit" / "VOC2010"
    for number, shape in enumerate(SHAPES):
        values = blocks([0, 1, 2, 55, 59], shape=shape, seed=number)
        save_photograph(folder / "JPEGImages" / f"2008_00000{number}.jpg", values)
        save_mask(folder / "SegmentationClassContext" / f"2008_00000{number}.png", values)
    write_list(
        folder / "ImageSets" / "SegmentationContext" / "val.txt",
        [f"2008_00000{number}" for number in range(3)],
    )


def draw_ade(root: Path) -> None:
    """Three validation photographs, one training photograph."""
    folder = root / "ADEChallengeData2016"
    for number, shape in enumerate(SHAPES, start=1):
        values = blocks([0, 1, 90, 150], shape=shape, seed=number)
        save_photograph(folder / "images" / "validation" / f"ADE_val_0000000{number}.jpg", values)
        save_mask(folder / "annotations" / "validation" / f"ADE_val_0000000{number}.png", values)
        numbered = np.stack(
            [
                values % 101,
                np.where(values == 90, 7, np.where(values == 150, 200, 0)),
                np.zeros_like(values),
            ],
            axis=-1,
        )
        save_colours(
            folder / "annotations_instance" / "validation" / f"ADE_val_0000000{number}.png",
            numbered,
        )
    save_photograph(folder / "images" / "training" / "ADE_train_00000001.jpg", values)
    save_mask(folder / "annotations" / "training" / "ADE_train_00000001.png", values)


def draw_ade_full(root: Path) -> None:
    """Three validation photographs; classes on both sides of what one byte holds."""
    folder = root / "ADE20K_2021_17_01"
    for number, shape in enumerate(SHAPES, start=1):
        values = blocks([0, 254, 255, 256, 846, 65_535], shape=shape, seed=number)
        save_photograph(
            folder / "images_detectron2" / "validation" / f"ADE_val_0000000{number}.jpg", values
        )
        save_mask(
            folder / "annotations_detectron2" / "validation" / f"ADE_val_0000000{number}.tif",
            values,
        )


def draw_context_full(root: Path) -> None:
    """Three photographs in the list, and one that is not."""
    folder = root / "VOCdevkit" / "VOC2010"
    for number, shape in enumerate((*SHAPES, (20, 20))):
        values = blocks([0, 255, 257, 458, 65_535], shape=shape, seed=number)
        save_photograph(folder / "JPEGImages" / f"2008_00000{number}.jpg", values)
        if number < len(SHAPES):
            save_mask(
                folder / "annotations_detectron2" / "pc459_val" / f"2008_00000{number}.tif", values
            )
    write_list(
        folder / "pascalcontext_val.txt", [f"2008_00000{number}" for number in range(len(SHAPES))]
    )


def draw_cityscapes(root: Path) -> None:
    """Two cities; labelIds and instanceIds, and files beside them that a reader must ignore."""
    frames = (
        ("frankfurt", "frankfurt_000000_000294"),
        ("lindau", "lindau_000000_000019"),
        ("lindau", "lindau_000001_000019"),
    )
    for number, ((city, frame), shape) in enumerate(zip(frames, SHAPES, strict=True)):
        values = blocks([0, 6, 7, 9, 26, 33], shape=shape, seed=number)
        save_photograph(root / "leftImg8bit" / "val" / city / f"{frame}_leftImg8bit.png", values)
        truth = root / "gtFine" / "val" / city
        save_mask(truth / f"{frame}_gtFine_labelIds.png", values)
        instances = np.where(values == 33, 33_001, np.where(values == 26, 26_000, values))
        instances[0, values[0] == 26] = 26  # a group of cars without separate instances
        save_mask(truth / f"{frame}_gtFine_instanceIds.png", instances)
        (truth / f"{frame}_gtFine_polygons.json").write_text("{}")


def draw_stuff(root: Path) -> None:
    """Photographs and COCO-Stuff maps, with a stale conversion beside one."""
    for number, shape in enumerate(SHAPES):
        name = f"{139 + number:012d}"
        values = blocks([0, 10, 12, 89, 91, 181, 255], shape=shape, seed=number)
        save_photograph(root / "val2017" / f"{name}.jpg", values)
        save_mask(root / "stuffthingmaps_trainval2017" / "val2017" / f"{name}.png", values)
    save_mask(
        root / "stuffthingmaps_trainval2017" / "val2017" / f"{139:012d}_labelTrainIds.png",
        np.zeros(SHAPES[0], dtype=np.uint8),
    )


def draw_curated(root: Path) -> None:
    """The same, and the list that names two of them."""
    draw_stuff(root)
    write_list(
        root / "curated" / "val2017" / "Coco164kFull_Stuff_Coarse_7.txt",
        [f"{number:012d}" for number in (139, 141)],
    )
