"""Photographs with one class each, and where they were taken where that is known.  H W pixels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_modules.image_sets import ImageSetSample, LabelSet
from data_modules.pixels.photographs import open_rgb, to_tensor


class Photograph(NamedTuple):
    """One photograph.

    Attributes:
        path: its file.
        class_label: its class.
        place: as in batches, or None.
    """

    path: Path
    class_label: int
    place: int | None = None


def evenly(photographs: Sequence[Photograph], *, limit: int | None) -> Sequence[Photograph]:
    """At most ``limit`` of them, spread evenly: they come class by class, and the first would be of few classes."""
    if limit is None or limit >= len(photographs):
        return photographs
    return [photographs[number * len(photographs) // limit] for number in range(limit)]


class ClassifiedPhotographs:
    """Photographs with a class each.

    Args:
        name: of the image set.
        photographs: those to use; their files are known to be there.
        label_sets: the one that ``class_label`` counts in.
        official_length: as ``ImageSet``.
        train_groups: how many photographs of each class at each place the training split has, where that is known.
    """

    no_instances = "its photographs have one class each and no maps"

    def __init__(
        self,
        name: str,
        photographs: Sequence[Photograph],
        *,
        label_sets: Mapping[str, LabelSet],
        official_length: int,
        train_groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Keep them."""
        self.name = name
        self.label_sets = label_sets
        self.official_length = official_length
        self.train_groups = train_groups
        self._photographs = photographs

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self._photographs)

    def sample(self, index: int) -> ImageSetSample:
        """A photograph and its class."""
        path, class_label, place = self._photographs[index]
        sample: ImageSetSample = {"image": to_tensor(open_rgb(path)), "name": path.stem, "class_label": class_label}
        if place is not None:
            sample["place"] = place
        return sample
