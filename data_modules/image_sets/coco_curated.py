"""COCO photographs that show mostly stuff, on which clusterings are compared, with 27 classes.  H W
pixels.

IIC selected them, and PiCIE, STEGO and later work score them: photographs of at least 360 pixels a
side, with at least three quarters of their pixels in the 15 classes of stuff.  These are 2,175 of
the 5,000 in ``val`` and 49,629 of ``train``.  The files are those of ``coco``.  A list
``curated/<split>2017/Coco164kFull_Stuff_Coarse_7.txt`` is read if it exists; otherwise opening the
set reads every map, about 8 ms each.

Source: the rule is xu-ji/IIC code/datasets/segmentation/util/coco164k_prepare.py @ 2f16a24, version
7; the counts are the lines of damo-cv/TransFGU dataloaders/curated_{val,train}.txt @ c2860de.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from gestalt.data_modules.image_sets import coco, select_label_sets
from gestalt.data_modules.labels.folders import read_list
from gestalt.data_modules.labels.labelled_photographs import Files, LabelledPhotographs
from gestalt.data_modules.labels.masks import read_mask
from gestalt.support.label_values import IGNORE

_OFFICIAL = {"train": 49_629, "val": 2_175}
_LABEL_SET = "coco_27"
_LIST = "Coco164kFull_Stuff_Coarse_7.txt"
_LEAST_SIDE = 360
_FIRST_OF_STUFF = 12  # classes from this one on


def _mostly_stuff(images: LabelledPhotographs) -> Iterator[Files]:
    """Yield the photographs that satisfy the rule, in order."""
    for files in images.photographs:
        assert files.mask is not None
        label = images.maps[_LABEL_SET](read_mask(files.mask, image=None), path=files.mask)
        stuff = int(((label >= _FIRST_OF_STUFF) & (label != IGNORE)).sum())
        if min(label.shape) >= _LEAST_SIDE and 4 * stuff >= 3 * label.numel():
            yield files


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` keeps the first photographs by name.

    Raises:
        ValueError: no root, unknown split, another label set than ``coco_27``, a photograph without
            map or a map without photograph, or a listed photograph that is missing.
    """
    whole = coco.open_here(root=root, split=split, limit=None, label_sets=[_LABEL_SET])
    select_label_sets(whole.label_sets, label_sets)
    split = split or "val"
    images = whole.photographs[0].image.parent
    # <root>/val2017, or <root>/images/val2017
    folder = images.parents[1] if images.parent.name == "images" else images.parent
    listed = folder / "curated" / f"{split}2017" / _LIST
    if not listed.is_file():
        photographs = list(islice(_mostly_stuff(whole), limit))
    else:
        present = {files.name: files for files in whole.photographs}
        photographs = [
            present.get(name, Files(name, images / f"{name}.jpg", None))
            for name in read_list(listed)[:limit]
        ]
    return replace(
        whole,
        name="coco_curated",
        photographs=photographs,
        required_by=listed,
        official_length=_OFFICIAL[split],
    )
