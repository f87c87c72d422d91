"""ImageNet's validation photographs with 1,000 classes, in folders by WordNet id.  H W pixels.

Get it from image-net.org after registration: ``ILSVRC2012_img_val.tar`` (md5 29b22e2961454d5413ddabcf34fc5622).  For non-commercial
research and education.  The tar is flat; the usual script ``valprep.sh`` sorts its photographs into ``val/<WordNet id>/*.JPEG``.

A class is the rank of its folder's name among all 1,000, so that a copy with fewer folders shifts nothing.
"""

from collections.abc import Sequence

from data_modules.image_sets import chosen
from data_modules.labels.classified_photographs import ClassifiedPhotographs, Photograph, evenly
from data_modules.labels.folders import find_folder, list_files
from data_modules.labels.label_tables import read_tables

LABEL_SET = "imagenet_1000"
_OFFICIAL = 50_000


def open_here(*, root: str | None, split: str | None, limit: int | None, label_sets: Sequence[str] | None) -> ClassifiedPhotographs:
    """Open ``val``; ``limit`` takes photographs evenly from all classes.

    Raises:
        ValueError: no root, another split or label set, a flat folder, or a folder whose name is no WordNet id of the 1,000.
    """
    if split not in (None, "val"):
        raise ValueError(f"imagenet split {split!r} is unknown; known: val")
    folder = find_folder(
        root,
        image_set="imagenet",
        places=("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        holds=("val",),
        get="sort ILSVRC2012_img_val.tar into val/<WordNet id>/ there",
    )
    val = folder / "val"
    table = read_tables("imagenet")[LABEL_SET]
    ranks = {name: rank for rank, name in enumerate(table.entry["folders"])}
    found = sorted(path.name for path in val.iterdir() if path.is_dir())
    if not found:
        raise ValueError(f"imagenet: {val} has no folders; its photographs must lie in one folder a class, named by its WordNet id")
    for name in found:
        if name not in ranks:
            raise ValueError(f"imagenet: {val / name} is none of the 1,000 WordNet ids, such as n01440764")
    photographs = [
        Photograph(val / name / f"{stem}.JPEG", class_label=ranks[name])
        for name in found
        for stem in list_files(val / name, suffix=".JPEG")
    ]
    return ClassifiedPhotographs(
        "imagenet",
        evenly(photographs, limit=limit),
        label_sets=chosen({LABEL_SET: table.labels}, label_sets),
        official_length=_OFFICIAL,
    )
