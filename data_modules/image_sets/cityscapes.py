"""Cityscapes, the official layout, with 19 classes or 27.  H W pixels.

Get it from cityscapes-dataset.com after registration: ``leftImg8bit_trainvaltest.zip`` and ``gtFine_trainvaltest.zip``.  Its own licence:
research, no redistribution.

``leftImg8bit/<split>/<city>/<frame>_leftImg8bit.png`` and ``gtFine/<split>/<city>/<frame>_gtFine_{labelIds,instanceIds}.png``.  Both label
sets are read from the labelIds that the archive has; where only converted ``labelTrainIds`` lie there, those give the 19 classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from data_modules.image_sets import chosen
from data_modules.labels.folders import find_folder
from data_modules.labels.label_tables import read_tables
from data_modules.labels.labelled_photographs import Files, LabelledPhotographs
from data_modules.labels.masks import objects, read_mask

_OFFICIAL = {"train": 2_975, "val": 500}
_VOID = 6  # labelIds up to this are no class
_FIRST_OF_INSTANCES = 24  # labelIds from this on are told apart; bare, they are a group of objects that is not
_OBJECT = 1_000  # an object is 1000 times its labelId plus its number


def _read_objects(path: Path, image: Tensor) -> Tensor:
    """Objects are numbered; what is no class and groups that nobody told apart are void; the rest is background."""
    values = read_mask(path, image=image, modes=("I;16", "I")).astype(np.int64)
    found = np.unique(values)
    wrong = [value for value in found.tolist() if value > 33 and not _FIRST_OF_INSTANCES <= value // _OBJECT <= 33]
    if wrong:
        raise ValueError(f"{path} holds values {wrong}; it must hold labelIds, 0-33, or 1000 times 24-33 plus an object's number")
    void = (values <= _VOID) | ((values >= _FIRST_OF_INSTANCES) & (values < _OBJECT))
    return objects(values, kept=found[found >= _OBJECT], void=void, path=path)


def _photographs(folder: Path, *, split: str, kind: str, has_objects: bool) -> list[Files]:
    """The files of all cities by name."""
    images, truth = folder / "leftImg8bit" / split, folder / "gtFine" / split
    cities = sorted({path.name for part in (images, truth) for path in part.iterdir() if path.is_dir()})
    frames = {
        city: {
            path.name.removesuffix(suffix)
            for part, suffix in ((images, "_leftImg8bit.png"), (truth, f"_gtFine_{kind}.png"))
            for path in (part / city).glob(f"[!.]*{suffix}")
        }
        for city in cities
    }
    return [
        Files(
            frame,
            images / city / f"{frame}_leftImg8bit.png",
            mask=truth / city / f"{frame}_gtFine_{kind}.png",
            objects=truth / city / f"{frame}_gtFine_instanceIds.png" if has_objects else None,
        )
        for city in cities
        for frame in sorted(frames[city])
    ]


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` takes the first photographs by city and frame.

    Raises:
        ValueError: no root, no such split or label set, a photograph without its masks, or labelTrainIds alone for 27 classes.
    """
    split = "val" if split is None else split
    if split not in _OFFICIAL:
        raise ValueError(f"cityscapes split {split!r} is unknown; known: {', '.join(_OFFICIAL)}")
    folder = find_folder(
        root,
        image_set="cityscapes",
        places=("cityscapes",),
        holds=(f"leftImg8bit/{split}", f"gtFine/{split}"),
        get="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there",
    )
    truth = folder / "gtFine" / split
    kind = "labelIds" if any(truth.glob("*/*_labelIds.png")) else "labelTrainIds"
    tables = {key: table for key, table in read_tables("cityscapes").items() if kind in table.maps}
    has_objects = any(truth.glob("*/*_instanceIds.png"))
    return LabelledPhotographs(
        "cityscapes",
        _photographs(folder, split=split, kind=kind, has_objects=has_objects)[:limit],
        listed_in="its pair",
        label_sets=chosen({key: table.labels for key, table in tables.items()}, label_sets),
        maps={key: table.maps[kind] for key, table in tables.items()},
        official_length=_OFFICIAL[split],
        no_instances=None if has_objects else f"there is no *_instanceIds.png in {truth}",
        read_objects=_read_objects,
    )
