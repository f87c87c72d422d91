"""COCO 2017 with the 81 classes of COCO-Object, 171 or 27 of COCO-Stuff, or the 133 of its panoptic annotations.  H W pixels.

Download ``val2017.zip`` (1 GB) and ``panoptic_annotations_trainval2017.zip`` (821 MB; the PNGs are in a zip inside the zip) from
cocodataset.org, and ``stuffthingmaps_trainval2017.zip`` (659 MB) from nightrome/cocostuff.  Annotations CC BY 4.0; images under Flickr's
terms, each with its own licence.

``{train,val}2017/<12 digits>.jpg``; ``annotations/panoptic_val2017.json`` with the folder ``panoptic_val2017``, for the 133 classes and the
objects; ``stuffthingmaps_trainval2017/val2017/<12 digits>.png`` for the others, or ``{images,annotations}/val2017`` as in mmsegmentation,
PiCIE and STEGO.  COCO-Object treats all stuff and unlabelled pixels in the maps of COCO-Stuff as background.
The 27 classes are the parents of the 171 in COCO-Stuff's hierarchy, 12 of things and 15 of stuff.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from torch import Tensor

from data_modules.image_sets import ImageSetSample, LabelSet, select_label_sets, select_split
from data_modules.labels.folders import check_files, find_folder, list_files
from data_modules.labels.label_tables import Table, read_tables
from data_modules.labels.masks import ValueMap, read_mask
from data_modules.labels.panoptic import Panoptic
from data_modules.pixels.photographs import open_rgb, to_tensor

PANOPTIC = "coco_panoptic_133"
_OFFICIAL = {"train": 118_287, "val": 5_000}
_MAPS = ("stuffthingmaps_trainval2017", "stuffthingmaps", "annotations")
_KINDS = ("", "_labelTrainIds")  # endings of the archive, and of mmsegmentation's converter


@dataclass(eq=False)
class COCO:
    """Photographs with up to four label sets, and with objects if the panoptic annotations are read.

    Attributes:
        names: stems of the photographs.
        images: folder of the photographs.
        stuff: folder of the COCO-Stuff maps, if one of their label sets is read.
        kind: ending of those maps' stems.
        panoptic: the panoptic annotations, if they are read.
        tables: the label sets to read.
        official_length: as ``ImageSet``.
        name: as ``ImageSet``.
    """

    names: Sequence[str]
    _: KW_ONLY
    images: Path
    stuff: Path | None
    kind: str
    panoptic: Panoptic | None
    tables: Mapping[str, Table]
    official_length: int
    name: str = "coco"

    @property
    def label_sets(self) -> dict[str, LabelSet]:
        """Label sets that are read, by name."""
        return {key: table.labels for key, table in self.tables.items()}

    @property
    def no_instances(self) -> str | None:
        """The reason why there are no instance maps, or None."""
        return "the maps of COCO-Stuff do not tell objects apart" if self.panoptic is None else None

    @property
    def maps(self) -> dict[str, ValueMap]:
        """Name of a label set of COCO-Stuff -> map from the values of its masks to classes."""
        return {key: table.maps[self.kind] for key, table in self.tables.items() if key != PANOPTIC}

    def __len__(self) -> int:
        return len(self.names)

    def label(self, name: str, *, label_set: str) -> Tensor:
        """Read the map of a COCO-Stuff label set without the photograph.

        Raises:
            ValueError: unknown value.
        """
        assert self.stuff is not None
        path = self.stuff / f"{name}{self.kind}.png"
        return self.tables[label_set].maps[self.kind](read_mask(path, image=None), path=path)

    def sample(self, index: int) -> ImageSetSample:
        """Read a photograph and its maps.

        Raises:
            ValueError: a map differs in size from its image, or has an unknown value.
        """
        name = self.names[index]
        image = to_tensor(open_rgb(self.images / f"{name}.jpg"))
        labels = {}
        sample: ImageSetSample = {"image": image, "name": name}
        if self.stuff is not None:
            path = self.stuff / f"{name}{self.kind}.png"
            values = read_mask(path, image=image)
            labels = {key: values_map(values, path=path) for key, values_map in self.maps.items()}
        if self.panoptic is not None:
            labels[PANOPTIC], sample["instance"] = self.panoptic.read(name, image=image)
        sample["labels"] = {key: labels[key] for key in self.label_sets}
        return sample


def _stuff_maps(folder: Path, *, split: str) -> tuple[Path, str]:
    """Return the folder of the COCO-Stuff maps and the ending of their stems.

    Raises:
        ValueError: no maps.
    """
    places = [folder / name / f"{split}2017" for name in _MAPS]
    for place in filter(Path.is_dir, places):
        stems = [path.stem for path in place.iterdir() if path.suffix == ".png"]
        for kind in _KINDS:
            if any(stem.removesuffix(kind).isdigit() for stem in stems if stem.endswith(kind)):
                return place, kind
    raise ValueError(f"coco: no <12 digits>.png in any of {', '.join(map(str, places))}; unpack stuffthingmaps_trainval2017.zip there")


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> COCO:
    """Open ``val`` (default) or ``train``; ``limit`` keeps the first photographs by name.

    The photographs are those in the panoptic annotations if these are read, otherwise those in the folders.

    Raises:
        ValueError: no root, unknown split or label set, a photograph without map or a map without photograph.
    """
    split = select_split("coco", split, known=_OFFICIAL, default="val")
    known = read_tables("coco")
    tables = {key: known[key] for key in select_label_sets({key: table.labels for key, table in known.items()}, label_sets)}
    places = ("coco", "coco_stuff164k", "cocostuff")
    folder = find_folder(
        root, image_set="coco", places=places, holds=(f"{split}2017|images/{split}2017",), get=f"unpack {split}2017.zip there"
    )
    images = next(place for place in (folder / f"{split}2017", folder / "images" / f"{split}2017") if place.is_dir())
    panoptic = Panoptic(folder / "annotations", split=split, table=tables[PANOPTIC]) if PANOPTIC in tables else None
    stuff, kind = _stuff_maps(folder, split=split) if set(tables) - {PANOPTIC} else (None, "")
    names = [] if panoptic is None else panoptic.names
    if panoptic is None and stuff is not None:
        mapped = [name for name in list_files(stuff, suffix=f"{kind}.png") if name.isdigit()]
        names = sorted({*list_files(images, suffix=".jpg"), *mapped})
    names = names[:limit]
    files = [images / f"{name}.jpg" for name in names]
    files += [] if stuff is None else [stuff / f"{name}{kind}.png" for name in names]
    files += [] if panoptic is None else [panoptic.path(name) for name in names]
    check_files(files, required_by="its pair" if panoptic is None else panoptic.annotations)
    return COCO(names, images=images, stuff=stuff, kind=kind, panoptic=panoptic, tables=tables, official_length=_OFFICIAL[split])
