"""Write PASCAL Context's masks from the published file, for ``gestalt data get``.

Writes ``SegmentationClassContext/<id>.png`` and ``ImageSets/SegmentationContext/{train,val}.txt``
into a folder, like the converter of mmsegmentation (tools/convert_datasets/pascal_context.py @
159db2f), but without its reader, which loses images of each split. The file has 10,103 images in
0.6 GB, which take several GB of memory in Python.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gestalt.data_modules.labels.class_tables import read_tables
from gestalt.support.files import read_listing


def run_lengths(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: six bits a letter, lowest group first; from the fourth
    on, differences to the last but one.

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
    """Decode a mask from runs down its columns, the first of zeros.  Returns (H, W).

    Raises:
        ValueError: the runs do not fill the mask.
    """
    height, width = segmentation["size"]
    lengths = run_lengths(segmentation["counts"])
    if min(lengths, default=0) < 0 or sum(lengths) != height * width:
        raise ValueError(
            f"its runs have {sum(lengths)} pixels, expected {height}x{width} = {height * width}"
        )
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def convert(annotation_file: Path, folder: Path) -> None:
    """Write masks and lists.

    Raises:
        ValueError: an unreadable annotation, or a category that is none of the 59.
    """
    content = read_listing(annotation_file)
    annotations = defaultdict(list)
    for annotation in content["annos_segmentation"]:
        annotations[annotation["image_id"]].append(annotation)
    masks, lists = folder / "SegmentationClassContext", folder / "ImageSets" / "SegmentationContext"
    for target in (masks, lists):
        target.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {"train": [], "val": []}
    categories = read_tables("pascal_context")["context60"].maps["category_id"]
    for image in sorted(content["images"], key=lambda image: str(image["file_name"])):
        stem = Path(image["file_name"]).stem
        raw = np.zeros((image["height"], image["width"]), dtype=np.uint16)
        for annotation in annotations[image["image_id"]]:  # later ones lie over earlier ones
            try:
                raw[run_length_mask(annotation["segmentation"])] = annotation["category_id"]
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"{image['file_name']}, annotation {annotation['id']}: {error}"
                ) from error
        classes = categories(raw, path=Path(image["file_name"])).numpy()
        Image.fromarray(classes).save(masks / f"{stem}.png")
        names[image["phase"]].append(stem)
    for split, stems in names.items():  # lists come last, so that an interrupted run leaves none
        (lists / f"{split}.txt").write_text(
            "".join(f"{stem}\n" for stem in stems), encoding="utf-8"
        )
