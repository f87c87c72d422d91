"""COCO 2017 with the 81 classes of COCO-Object, 171 or 27 of COCO-Stuff, or the 133 of its panoptic annotations.  H W pixels.

Get it from cocodataset.org: ``val2017.zip`` (1 GB) and ``panoptic_annotations_trainval2017.zip`` (821 MB; the PNGs are in a zip inside the
zip), and from nightrome/cocostuff ``stuffthingmaps_trainval2017.zip`` (659 MB).  Annotations CC BY 4.0; images under Flickr's terms, each
with a licence of its own.

``{train,val}2017/<12 digits>.jpg``; ``annotations/panoptic_val2017.json`` with the folder ``panoptic_val2017``, for the 133 classes and the
objects; ``stuffthingmaps_trainval2017/val2017/<12 digits>.png`` for the others, or ``{images,annotations}/val2017`` as mmsegmentation,
PiCIE and STEGO have them.  In the maps of COCO-Stuff, COCO-Object takes all that is no thing for background, what nobody labelled included.
The 27 classes are those above the 171 in COCO-Stuff's hierarchy, 12 of things and 15 of stuff.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from data_modules.image_sets import ImageSetSample, LabelSet, chosen
from data_modules.labels.folders import check_files, find_folder, list_files
from data_modules.labels.label_tables import Table, read_tables
from data_modules.labels.masks import read_mask
from data_modules.labels.panoptic import Panoptic
from data_modules.pixels.photographs import open_rgb, to_tensor

PANOPTIC = "coco_panoptic_133"
_OFFICIAL = {"train": 118_287, "val": 5_000}
_MAPS = ("stuffthingmaps_trainval2017", "stuffthingmaps", "annotations")
_KINDS = ("", "_labelTrainIds")  # what the archive has, and what mmsegmentation's converter writes


class COCO:
    """Photographs with up to four label sets, and objects where the panoptic annotations are read.

    Args:
        names: stems of the photographs, which stay as an attribute.
        images: their folder, likewise.
        stuff: folder of the COCO-Stuff maps, where one of their label sets is wanted.
        kind: what follows the stem in the names of those maps.
        panoptic: the panoptic annotations, where they are wanted.
        tables: the wanted label sets.
        official_length: as ``ImageSet``.
    """

    name = "coco"

    def __init__(
        self,
        names: Sequence[str],
        *,
        images: Path,
        stuff: Path | None,
        kind: str,
        panoptic: Panoptic | None,
        tables: Mapping[str, Table],
        official_length: int,
    ) -> None:
        """Keep the places."""
        self.label_sets: dict[str, LabelSet] = {key: table.labels for key, table in tables.items()}
        self.official_length = official_length
        self.no_instances = "the maps of COCO-Stuff do not tell objects apart" if panoptic is None else None
        self.names = names
        self.images = images
        self._stuff = stuff
        self._kind = kind
        self._panoptic = panoptic
        self._tables = tables

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self.names)

    def only(self, names: Sequence[str], *, name: str, official_length: int) -> "COCO":
        """Some of the photographs, as an image set of another name."""
        some = copy.copy(self)
        some.name, some.names, some.official_length = name, names, official_length
        return some

    def label(self, name: str, *, label_set: str) -> Tensor:
        """A photograph's map of a label set of COCO-Stuff's, without the photograph.

        Raises:
            ValueError: a value that stands for nothing.
        """
        assert self._stuff is not None
        path = self._stuff / f"{name}{self._kind}.png"
        return self._tables[label_set].maps[self._kind](read_mask(path, image=None), path=path)

    def sample(self, index: int) -> ImageSetSample:
        """A photograph and its maps.

        Raises:
            ValueError: a map of another size than its image, or with a value that stands for nothing.
        """
        name = self.names[index]
        image = to_tensor(open_rgb(self.images / f"{name}.jpg"))
        labels = {}
        sample: ImageSetSample = {"image": image, "name": name}
        if self._stuff is not None:
            path = self._stuff / f"{name}{self._kind}.png"
            values = read_mask(path, image=image)
            labels = {key: table.maps[self._kind](values, path=path) for key, table in self._tables.items() if key != PANOPTIC}
        if self._panoptic is not None:
            labels[PANOPTIC], sample["instance"] = self._panoptic.read(name, image=image)
        sample["labels"] = {key: labels[key] for key in self.label_sets}
        return sample


def _stuff_maps(folder: Path, *, split: str) -> tuple[Path, str]:
    """The folder of the COCO-Stuff maps, and what follows the stem in their names.

    Raises:
        ValueError: there are none.
    """
    places = [folder / name / f"{split}2017" for name in _MAPS]
    for place in filter(Path.is_dir, places):
        stems = [path.stem for path in place.iterdir() if path.suffix == ".png"]
        for kind in _KINDS:
            if any(stem.removesuffix(kind).isdigit() for stem in stems if stem.endswith(kind)):
                return place, kind
    raise ValueError(f"coco: no <12 digits>.png in any of {', '.join(map(str, places))}; unpack stuffthingmaps_trainval2017.zip there")


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> COCO:
    """Open ``val`` (default) or ``train``; ``limit`` takes the first photographs by name.

    Where the panoptic annotations are read, they say which photographs there are; elsewhere the folders do.

    Raises:
        ValueError: no root, no such split or label set, a photograph without its map or the reverse.
    """
    split = "val" if split is None else split
    if split not in _OFFICIAL:
        raise ValueError(f"coco split {split!r} is unknown; known: {', '.join(_OFFICIAL)}")
    known = read_tables("coco")
    tables = {key: known[key] for key in chosen({key: table.labels for key, table in known.items()}, label_sets)}
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
    wanted = [images / f"{name}.jpg" for name in names]
    wanted += [] if stuff is None else [stuff / f"{name}{kind}.png" for name in names]
    wanted += [] if panoptic is None else [panoptic.path(name) for name in names]
    check_files(wanted, said_by="its pair" if panoptic is None else panoptic.said_by)
    return COCO(names, images=images, stuff=stuff, kind=kind, panoptic=panoptic, tables=tables, official_length=_OFFICIAL[split])
