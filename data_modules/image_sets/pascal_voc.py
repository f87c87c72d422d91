"""PASCAL VOC 2012 segmentation, the official layout.  H W pixels.

``VOCdevkit/VOC2012/{JPEGImages,SegmentationClass,SegmentationObject,ImageSets/Segmentation}``; masks are palette PNGs whose values are the
classes, 255 the void border. Grey masks with the same values (those of SBD) are read too.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_modules.batches import IGNORE
from data_modules.image_sets import ImageSetSample, LabelSet
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

LABELS = LabelSet(
    names=_NAMES,
    prompts=(("background", *_CONTEXT), *((_SAID.get(name, name),) for name in _NAMES[1:])),
    background=0,
)
"""21 classes from 60 words: 39 context words stand for background too.  Source: public CLIPpy code, its VOC evaluation."""


class PascalVOC:
    """Photographs with class maps, and instance maps where the folder has them."""

    name = "pascal_voc"
    labels = LABELS

    def __init__(self, folder: Path, *, names: list[str], official_length: int) -> None:
        """Take the ``VOC2012`` folder and the names in it to use."""
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
        sample["label"] = label = _read_map(self._folder / "SegmentationClass" / f"{name}.png", image=image)
        wrong = sorted(set(np.unique(label.numpy()).tolist()) - {*range(len(LABELS.names)), IGNORE})
        if wrong:
            raise ValueError(f"pascal_voc: SegmentationClass/{name}.png holds values {wrong}; it must hold 0 to 20, and 255 for void")
        if self.no_instances is None:
            sample["instance"] = _read_map(self._folder / "SegmentationObject" / f"{name}.png", image=image)
        return sample


def _read_map(path: Path, *, image: Tensor) -> Tensor:
    """A mask's stored values, never converted: palette indices are the classes.  Returns (H, W) uint8."""
    with Image.open(path) as mask:
        if mask.mode not in ("P", "L"):
            raise ValueError(f"pascal_voc: {path} has mode {mask.mode}; a mask has mode P (palette) or L (grey)")
        values = np.array(mask, dtype=np.uint8)
    if values.shape != tuple(image.shape[1:]):
        raise ValueError(f"pascal_voc: {path} is {values.shape[1]}x{values.shape[0]}, its image {image.shape[2]}x{image.shape[1]}")
    return torch.from_numpy(values)


def _find_folder(root: Path) -> Path:
    """The ``VOC2012`` folder: ``root`` holds VOCdevkit, is it, or is VOC2012 itself."""
    places = [root / "VOCdevkit" / "VOC2012", root / "VOC2012", root]
    for place in places:
        if (place / "ImageSets" / "Segmentation").is_dir():
            return place
    raise ValueError(
        f"pascal_voc: no ImageSets/Segmentation in any of {', '.join(map(str, places))}; unpack VOCtrainval_11-May-2012.tar there"
    )


def open_here(*, root: str | None, split: str | None, limit: int | None) -> PascalVOC:
    """Open ``val`` (default), ``train`` or ``trainval``; ``limit`` takes the first photographs.

    Raises:
        ValueError: no root, no such split, or a listed name whose image or mask is not there.
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
    return PascalVOC(folder, names=names, official_length=_OFFICIAL[split])
