"""PASCAL VOC 2012 segmentation, the official layout, with 21 classes or the 20 without background.  H W pixels.

Get it from the VOC 2012 page of Oxford's robots group: ``VOCtrainval_11-May-2012.tar`` (2 GB, md5 6cd6e144f989b92b3379bac3b3de84fd).
Photographs from Flickr, under Flickr's terms; for research.

``VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,SegmentationObject,ImageSets/Segmentation}``; masks are palette PNGs whose values are the
classes, 255 the void border.  Grey masks with the same values (those of SBD) are read too.
"""

from collections.abc import Sequence
from pathlib import Path

from data_modules.image_sets import ImageSetSample, LabelSet, chosen
from data_modules.masks import ValueMap, read_mask
from data_modules.photographs import open_rgb, to_tensor

_OFFICIAL = {"train": 1_464, "val": 1_449, "trainval": 2_913}

_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_SAID = {"diningtable": "table", "pottedplant": "potted plant", "tvmonitor": "television monitor"}

_CONTEXT = (
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform",
    "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck",
    "wall", "water", "window", "wood",
)  # fmt: skip

_PLAIN = tuple((_SAID.get(name, name),) for name in _NAMES[1:])

LABELS = {
    "voc21": LabelSet(names=_NAMES, prompts=(("background", *_CONTEXT), *_PLAIN), background=0),
    "voc20": LabelSet(names=_NAMES[1:], prompts=_PLAIN, background=None),
}
"""21 classes from 60 words: 39 context words stand for background too.  Source: public CLIPpy code, its VOC evaluation."""

_MAPS = {
    "voc21": ValueMap({value: value for value in range(21)}, ignored=[255]),
    "voc20": ValueMap({value: value - 1 for value in range(1, 21)}, ignored=[0, 255]),
}
_OBJECTS = ValueMap({value: value for value in range(255)}, ignored=[255])


class PascalVOC:
    """Photographs with class maps, and instance maps where the folder has them."""

    name = "pascal_voc"

    def __init__(self, folder: Path, *, names: list[str], label_sets: dict[str, LabelSet], official_length: int) -> None:
        """Take the ``VOC2012`` folder and the names in it to use."""
        self.label_sets = label_sets
        self.official_length = official_length
        self._folder = folder
        self._names = names
        objects = folder / "SegmentationObject"
        self.no_instances = None if objects.is_dir() else f"there is no folder {objects}"

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self._names)

    def sample(self, index: int) -> ImageSetSample:
        """A photograph and its maps.

        Raises:
            ValueError: a map of another size than its image, or with a value that is no class.
        """
        name = self._names[index]
        image = to_tensor(open_rgb(self._folder / "JPEGImages" / f"{name}.jpg"))
        sample: ImageSetSample = {"image": image, "name": name}
        path = self._folder / "SegmentationClass" / f"{name}.png"
        values = read_mask(path, image=image)
        sample["labels"] = {key: _MAPS[key](values, path=path) for key in self.label_sets}
        if self.no_instances is None:
            path = self._folder / "SegmentationObject" / f"{name}.png"
            sample["instance"] = _OBJECTS(read_mask(path, image=image), path=path)
        return sample


def _find_folder(root: Path) -> Path:
    """The ``VOC2012`` folder: ``root`` holds VOCdevkit, is it, or is VOC2012 itself."""
    places = [root / "VOCdevkit" / "VOC2012", root / "VOC2012", root]
    for place in places:
        if (place / "ImageSets" / "Segmentation").is_dir():
            return place
    raise ValueError(
        f"pascal_voc: no ImageSets/Segmentation in any of {', '.join(map(str, places))}; unpack VOCtrainval_11-May-2012.tar there"
    )


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> PascalVOC:
    """Open ``val`` (default), ``train`` or ``trainval``; ``limit`` takes the first photographs.

    Raises:
        ValueError: no root, no such split or label set, or a listed name whose image or mask is not there.
    """
    split = "val" if split is None else split
    if split not in _OFFICIAL:
        raise ValueError(f"pascal_voc split {split!r} is unknown; known: {', '.join(_OFFICIAL)}")
    if root is None:
        raise ValueError("image set pascal_voc needs its folder (the one that holds VOCdevkit), found none")
    folder = _find_folder(Path(root))
    listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listed.is_file():
        raise ValueError(f"pascal_voc: no file {listed}")
    names = list(filter(None, (line.strip() for line in listed.read_text(encoding="utf-8").splitlines())))[:limit]
    maps = ["SegmentationClass", *(["SegmentationObject"] if (folder / "SegmentationObject").is_dir() else [])]
    for name in names:
        for path in (folder / "JPEGImages" / f"{name}.jpg", *(folder / kind / f"{name}.png" for kind in maps)):
            if not path.is_file():
                raise ValueError(f"pascal_voc: {name} is in {split}.txt but there is no file {path}")
    return PascalVOC(folder, names=names, label_sets=chosen(LABELS, label_sets), official_length=_OFFICIAL[split])
