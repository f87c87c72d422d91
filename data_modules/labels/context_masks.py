"""PASCAL Context's masks out of the published file: python -m data_modules.labels.context_masks trainval_merged.json VOC2010

Writes ``SegmentationClassContext/<id>.png`` and ``ImageSets/SegmentationContext/{train,val}.txt`` into the folder VOC2010, as the
converter of mmsegmentation does (tools/convert_datasets/pascal_context.py @ 159db2f), without the reader that loses an image of each split.
The file has 10,103 images in 0.6 GB, for which Python needs several GB of memory.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.labels.label_tables import read_tables


def run_lengths(text: str) -> list[int]:
    """COCO's compressed run lengths: six bits a letter, the lowest group first; from the fourth on, differences to the last but one.

    Source: cocodataset/cocoapi, common/maskApi.c @ e014925.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text.encode("ascii"):
        group = letter - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)  # the sign
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value, shift = 0, 0
    return lengths


def run_length_mask(segmentation: dict[str, Any]) -> NDArray[np.bool_]:
    """A mask of runs down its columns, which start with zeros.  Returns (H, W).

    Raises:
        ValueError: the runs do not fill the mask.
    """
    height, width = segmentation["size"]
    lengths = run_lengths(segmentation["counts"])
    if min(lengths, default=0) < 0 or sum(lengths) != height * width:
        raise ValueError(f"its runs fill {sum(lengths)} pixels, its size {height}x{width} is {height * width}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def mask_of(image: dict[str, Any], annotations: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """The 60 classes of an image, (H, W): 0, and what the annotations lay over it in their order.

    Raises:
        ValueError: an annotation that cannot be read, or of a category that is none of the 59.
    """
    raw = np.zeros((image["height"], image["width"]), dtype=np.uint16)
    for one in annotations:
        try:
            raw[run_length_mask(one["segmentation"])] = one["category_id"]
        except (ValueError, IndexError) as error:
            raise ValueError(f"{image['file_name']}, annotation {one['id']}: {error}") from error
    classes: NDArray[np.uint8] = read_tables("pascal_context")["context60"].maps["category_id"](raw, path=Path(image["file_name"])).numpy()
    return classes


def convert(annotation_file: Path, folder: Path) -> dict[str, int]:
    """Write masks and lists.  Returns the number of images of each split.

    Raises:
        ValueError: no such file or folder, or as ``mask_of``.
    """
    if not annotation_file.is_file():
        raise ValueError(f"there is no file {annotation_file}")
    if not (folder / "JPEGImages").is_dir():
        raise ValueError(f"there is no folder {folder / 'JPEGImages'}; unpack VOCtrainval_03-May-2010.tar and name its VOC2010")
    said = json.loads(annotation_file.read_text(encoding="utf-8"))
    annotations = defaultdict(list)
    for one in said["annos_segmentation"]:
        annotations[one["image_id"]].append(one)
    masks, lists = folder / "SegmentationClassContext", folder / "ImageSets" / "SegmentationContext"
    for made in (masks, lists):
        made.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {"train": [], "val": []}
    for image in sorted(said["images"], key=lambda image: str(image["file_name"])):
        stem = Path(image["file_name"]).stem
        Image.fromarray(mask_of(image, annotations[image["image_id"]])).save(masks / f"{stem}.png")
        names[image["phase"]].append(stem)
    for split, stems in names.items():  # last, so that a killed run leaves no list
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return {split: len(stems) for split, stems in names.items()}


def main(words: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="write PASCAL Context's masks and lists")
    parser.add_argument("annotation_file", type=Path, help="trainval_merged.json")
    parser.add_argument("folder", type=Path, help="VOCdevkit/VOC2010")
    arguments = parser.parse_args(words)
    try:
        counts = convert(arguments.annotation_file, arguments.folder)
    except ValueError as error:
        parser.exit(2, f"context_masks: {error}\n")
    print(", ".join(f"{split} {count}" for split, count in counts.items()))


if __name__ == "__main__":
    main()
