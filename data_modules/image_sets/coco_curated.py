"""The photographs of COCO 2017 that are mostly stuff, on which clusters are compared, with 27 classes.  H W pixels.

IIC chose them, and PiCIE, STEGO and those who follow them score them: at least 360 pixels a side, and at least three quarters of all
pixels in one of the 15 classes of stuff.  That makes 2,175 of the 5,000 of ``val`` and 49,629 of ``train``.  The files are those of
``coco``.  Where the list of the chosen lies there too, as ``curated/<split>2017/Coco164kFull_Stuff_Coarse_7.txt``, it is read; elsewhere
every map is, when the set is opened: about 8 ms each.

Source: the rule is xu-ji/IIC code/datasets/segmentation/util/coco164k_prepare.py @ 2f16a24, version 7; the counts are the lines of
damo-cv/TransFGU dataloaders/curated_{val,train}.txt @ c2860de.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from data_modules.batches import IGNORE
from data_modules.image_sets import coco
from data_modules.labels.folders import read_list

_OFFICIAL = {"train": 49_629, "val": 2_175}
_LABEL_SET = "coco_27"
_LIST = "Coco164kFull_Stuff_Coarse_7.txt"
_LEAST_SIDE = 360
_FIRST_OF_STUFF = 12  # the classes from this on


def _mostly_stuff(photographs: coco.COCO) -> Iterator[str]:
    """The stems of those that the rule keeps, in order."""
    for name in photographs.names:
        label = photographs.label(name, label_set=_LABEL_SET)
        stuff = int(((label >= _FIRST_OF_STUFF) & (label != IGNORE)).sum())
        if min(label.shape) >= _LEAST_SIDE and 4 * stuff >= 3 * label.numel():
            yield name


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> coco.COCO:
    """Open ``val`` (default) or ``train``; ``limit`` takes the first photographs by name.

    Raises:
        ValueError: as ``coco``; a label set that is not ``coco_27``; or the list names a photograph that is not there.
    """
    for name in label_sets or ():
        if name != _LABEL_SET:
            raise ValueError(f"label set {name!r} is unknown; known: {_LABEL_SET}")
    whole = coco.open_here(root=root, split=split, limit=None, label_sets=[_LABEL_SET])
    split = "val" if split is None else split
    folder = whole.images.parents[whole.images.parent.name == "images"]
    listed = folder / "curated" / f"{split}2017" / _LIST
    names = read_list(listed)[:limit] if listed.is_file() else list(islice(_mostly_stuff(whole), limit))
    there = set(whole.names)
    for name in names:
        if name not in there:
            raise ValueError(f"there is no file {whole.images / name}.jpg, which {listed} asks for")
    return whole.only(names, name="coco_curated", official_length=_OFFICIAL[split])
