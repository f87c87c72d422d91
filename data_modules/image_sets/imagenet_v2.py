"""ImageNet-V2, matched frequency: 10,000 new photographs of ImageNet's 1,000 classes.  H W pixels.

Get ``imagenetv2-matched-frequency.tar.gz`` from the hub (vaishaal/ImageNetV2), linked from modestyachts/ImageNetV2.  Code MIT; images as
ImageNet's.

``imagenetv2-matched-frequency-format-val/<class>/*.jpeg``.  A class is its folder's name as a number: sorted as words, "10" would come
before "2".
"""

from collections.abc import Sequence

from data_modules.image_sets import chosen
from data_modules.image_sets.imagenet import LABEL_SET
from data_modules.labels.classified_photographs import ClassifiedPhotographs, Photograph, evenly
from data_modules.labels.folders import find_folder, list_files
from data_modules.labels.label_tables import read_tables

_OFFICIAL = 10_000
_FOLDER = "imagenetv2-matched-frequency-format-val"


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> ClassifiedPhotographs:
    """Open its photographs, all a test set; ``limit`` takes some evenly from all classes.

    Raises:
        ValueError: no root, another split or label set, or a folder whose name is no number from 0 to 999.
    """
    if split not in (None, "val"):
        raise ValueError(f"imagenet_v2 split {split!r} is unknown; known: val")
    folder = find_folder(
        root,
        image_set="imagenet_v2",
        places=(_FOLDER, f"imagenet_v2/{_FOLDER}", "imagenet_v2"),
        holds=("0|1|2|10|100|999",),
        get="unpack imagenetv2-matched-frequency.tar.gz there",
    )
    table = read_tables("imagenet")[LABEL_SET]
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    for name in names:
        if name not in map(str, range(len(table.labels.names))):
            raise ValueError(
                f"imagenet_v2: {folder / name} is no class; its folders are numbers from 0 to 999 (WordNet ids: another release)"
            )
    photographs = [
        Photograph(folder / name / f"{stem}.jpeg", class_label=int(name))
        for name in sorted(names, key=int)
        for stem in list_files(folder / name, suffix=".jpeg")
    ]
    return ClassifiedPhotographs(
        "imagenet_v2",
        evenly(photographs, limit=limit),
        label_sets=chosen({LABEL_SET: table.labels}, label_sets),
        official_length=_OFFICIAL,
    )
