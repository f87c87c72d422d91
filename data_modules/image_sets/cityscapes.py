"""Cityscapes in the official layout, with 19 or 27 classes.  H W pixels.

Download ``leftImg8bit_trainvaltest.zip`` and ``gtFine_trainvaltest.zip`` from
cityscapes-dataset.com after registration.  Its own licence: research only, no redistribution.

``leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png`` and
``gtFine/<split>/<city>/<frame>_gtFine_{labelIds,instanceIds}.png``.  Both label sets are read from
the labelIds of the archive; converted ``labelTrainIds`` alone give the 19 classes.
"""

from pathlib import Path

import numpy as np
from torch import Tensor

from gestalt.data_modules.image_sets import select_split
from gestalt.data_modules.labels.class_tables import select_tables
from gestalt.data_modules.labels.folders import find_folder
from gestalt.data_modules.labels.labelled_photographs import Files, LabelledPhotographs
from gestalt.data_modules.labels.masks import objects, read_mask

_OFFICIAL = {"train": 2_975, "val": 500}
_VOID = 6  # labelIds up to this one are not classes
# labelIds from this one on have instances; the bare labelId marks a group of objects
_FIRST_OF_INSTANCES = 24
_OBJECT = 1_000  # the value of an object is 1000 times its labelId plus its number


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Read the object numbers; unlabelled pixels and groups of objects are void, everything else is
    background.
    """
    values = read_mask(path, image=image, modes=("I;16", "I")).astype(np.int64)
    present = np.unique(values)
    wrong = [
        value
        for value in present.tolist()
        if value > 33 and not _FIRST_OF_INSTANCES <= value // _OBJECT <= 33
    ]
    if wrong:
        raise ValueError(
            f"{path} holds values {wrong}; it must hold labelIds, 0-33, or 1000 times 24-33 plus "
            "an object's number"
        )
    void = (values <= _VOID) | ((values >= _FIRST_OF_INSTANCES) & (values < _OBJECT))
    return objects(values, kept=present[present >= _OBJECT], void=void, path=path)


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` keeps the first photographs by city and frame.

    Raises:
        ValueError: no root, unknown split or label set, a photograph without masks, or
            labelTrainIds alone for 27 classes.
    """
    split = select_split("cityscapes", split, known=_OFFICIAL)
    folder = find_folder(
        root,
        image_set="cityscapes",
        places=("cityscapes",),
        holds=(f"leftImg8bit/{split}", f"gtFine/{split}"),
        get="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
    )
    images, truth = folder / "leftImg8bit" / split, folder / "gtFine" / split
    kind = "labelIds" if any(truth.glob("*/*_labelIds.png")) else "labelTrainIds"
    labels, maps = select_tables("cityscapes", label_sets, kind)
    has_objects = any(truth.glob("*/*_instanceIds.png"))
    frames = {
        (path.parent.name, path.name.removesuffix(suffix))
        for part, suffix in ((images, "_leftImg8bit.png"), (truth, f"_gtFine_{kind}.png"))
        for path in part.glob(f"*/[!.]*{suffix}")
    }
    photographs = [
        Files(
            frame,
            images / city / f"{frame}_leftImg8bit.png",
            mask=truth / city / f"{frame}_gtFine_{kind}.png",
            objects=truth / city / f"{frame}_gtFine_instanceIds.png" if has_objects else None,
        )
        for city, frame in sorted(frames)[:limit]
    ]
    return LabelledPhotographs(
        "cityscapes",
        photographs,
        required_by="its pair",
        label_sets=labels,
        maps=maps,
        official_length=_OFFICIAL[split],
        no_instances=None if has_objects else f"no *_instanceIds.png in {truth}",
        read_objects=_read_objects,
    )
