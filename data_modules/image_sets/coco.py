"""COCO 2017 with the 81 classes of COCO-Object, 171 or 27 of COCO-Stuff, or the 133 of its panoptic
annotations.  H W pixels.

``gestalt data get coco_val coco_stuff coco_panoptic`` downloads ``val2017.zip`` (0.8 GB) and
``panoptic_annotations_trainval2017.zip`` (0.9 GB; the PNGs are in zips inside the zip) from
cocodataset.org by their SHA-256, and ``stuffthingmaps_trainval2017.zip`` (659 MB; no checksum is
published) of nightrome/cocostuff, which has to be unpacked in a folder of that name; ``coco_train``
has the training photographs.  Annotations CC BY 4.0; images under Flickr's terms, each with its own
licence.

``{train,val}2017/<12 digits>.jpg``; ``annotations/panoptic_val2017.json`` with the folder
``panoptic_val2017``, for the 133 classes and the objects; ``stuffthingmaps_trainval2017/val2017/<12
digits>.png`` for the others, or ``{images,annotations}/val2017`` as in mmsegmentation, PiCIE and
STEGO.  COCO-Object treats all stuff and unlabelled pixels in the maps of COCO-Stuff as background.
The 27 classes are the parents of the 171 in COCO-Stuff's hierarchy, 12 of things and 15 of stuff.
"""

from pathlib import Path

from gestalt.data_modules.image_sets import select_label_sets, select_split
from gestalt.data_modules.labels.class_tables import read_tables
from gestalt.data_modules.labels.folders import find_folder, list_files
from gestalt.data_modules.labels.labelled_photographs import LabelledPhotographs, files_by_name
from gestalt.data_modules.labels.panoptic import PANOPTIC, Panoptic

_OFFICIAL = {"train": 118_287, "val": 5_000}
_MAPS = ("stuffthingmaps_trainval2017", "stuffthingmaps", "annotations")
_KINDS = ("", "_labelTrainIds")  # endings of the archive, and of mmsegmentation's converter


def _stuff_maps(folder: Path, split: str) -> tuple[Path, str]:
    """Return the folder of the COCO-Stuff maps and the ending of their stems.

    Raises:
        ValueError: no maps.
    """
    places = [folder / name / f"{split}2017" for name in _MAPS]
    for place in filter(Path.is_dir, places):
        for kind in _KINDS:
            if any(path.stem.removesuffix(kind).isdigit() for path in place.glob("*.png")):
                return place, kind
    raise ValueError(
        f"coco: no <12 digits>.png in any of {', '.join(map(str, places))}; unpack "
        "stuffthingmaps_trainval2017.zip in the first, or run `gestalt data get coco_stuff`"
    )


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> LabelledPhotographs:
    """Open ``val`` (default) or ``train``; ``limit`` keeps the first photographs by name.

    The photographs are those in the panoptic annotations if these are read, otherwise those in the
    folders.

    Raises:
        ValueError: no root, unknown split or label set, a photograph without map or a map without
            photograph.
    """
    split = select_split("coco", split, known=_OFFICIAL)
    tables = read_tables("coco")
    labels = select_label_sets({key: table.labels for key, table in tables.items()}, label_sets)
    folder = find_folder(
        root,
        image_set="coco",
        places=("coco", "coco_stuff164k", "cocostuff"),
        holds=(f"{split}2017|images/{split}2017",),
        get=f"unpack {split}2017.zip there",
    )
    images = folder / f"{split}2017"
    if not images.is_dir():
        images = folder / "images" / f"{split}2017"
    panoptic = (
        Panoptic(folder / "annotations", split=split, table=tables[PANOPTIC])
        if PANOPTIC in labels
        else None
    )
    stuff, kind = _stuff_maps(folder, split) if set(labels) - {PANOPTIC} else (None, "")
    names = [] if panoptic is None else panoptic.names
    if panoptic is None and stuff is not None:
        mapped = [name for name in list_files(stuff, suffix=f"{kind}.png") if name.isdigit()]
        names = sorted({*list_files(images, suffix=".jpg"), *mapped})
    return LabelledPhotographs(
        "coco",
        files_by_name(
            names[:limit],
            images=images,
            masks=stuff,
            objects=panoptic.folder if panoptic else None,
            suffix=f"{kind}.png",
        ),
        required_by=panoptic.annotations if panoptic else "its pair",
        label_sets=labels,
        maps={key: tables[key].maps[kind] for key in labels if key != PANOPTIC},
        official_length=_OFFICIAL[split],
        no_instances=None if panoptic else "the maps of COCO-Stuff do not tell objects apart",
        panoptic=panoptic,
    )
