"""Flickr8k's dev and test photographs at native size, with five captions each, for retrieval.  H W
pixels.
"""

from pathlib import Path

from gestalt.data_modules.image_sets import select_label_sets, select_split
from gestalt.data_modules.labels.described_photographs import DescribedPhotographs
from gestalt.data_modules.sources.flickr import read_split


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> DescribedPhotographs:
    """Open ``dev`` (default) or ``test``; ``limit`` keeps the first photographs.

    Raises:
        ValueError: no root, unknown split, a label set, a missing file, or a name without
            photograph or captions.
    """
    select_label_sets({}, label_sets)
    split = select_split("flickr", split, known=("dev", "test"), default="dev")
    if root is None:
        raise ValueError(
            "image set flickr needs its folder; choose the one with Images/, captions.txt and "
            "Flickr_8k.devImages.txt"
        )
    pairs = read_split(Path(root), split)[:limit]
    return DescribedPhotographs(
        "flickr",
        [(path, {"captions": captions}) for path, captions in pairs],
        label_sets={},
        official_length=1_000,
        no_instances="its photographs have captions only",
        names=[path.stem for path, _ in pairs],
    )
