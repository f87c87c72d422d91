"""Flickr8k's dev and test photographs at native size, with five captions each, for retrieval.  H W
pixels.
"""

from collections.abc import Mapping
from pathlib import Path

from gestalt.data_modules.image_sets import (
    ImageSetSample,
    LabelSet,
    select_label_sets,
    select_split,
)
from gestalt.data_modules.pixels.photographs import open_rgb, to_tensor
from gestalt.data_modules.sources.flickr import read_split


class FlickrSet:
    """Photographs with captions, without labels."""

    name = "flickr"
    label_sets: Mapping[str, LabelSet] = {}
    official_length: int | None = 1_000
    no_instances: str | None = "its photographs have captions only"

    def __init__(self, pairs: list[tuple[Path, list[str]]]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def names(self) -> list[str]:
        """Names of the photographs, in order."""
        return [path.stem for path, _ in self._pairs]

    def sample(self, index: int) -> ImageSetSample:
        """Read a photograph and its captions."""
        path, captions = self._pairs[index]
        return {"image": to_tensor(open_rgb(path)), "name": path.stem, "captions": list(captions)}


def open_here(
    *, root: str | None, split: str | None, limit: int | None, label_sets: list[str] | None
) -> FlickrSet:
    """Open ``dev`` (default) or ``test``; ``limit`` keeps the first photographs.

    Raises:
        ValueError: no root, unknown split, a label set, or as ``read_split``.
    """
    select_label_sets(FlickrSet.label_sets, label_sets)
    split = select_split("flickr", split, known=("dev", "test"), default="dev")
    if root is None:
        raise ValueError(
            "image set flickr needs its folder; choose the one with Images/, captions.txt and "
            "Flickr_8k.devImages.txt"
        )
    return FlickrSet(read_split(Path(root), split)[:limit])
