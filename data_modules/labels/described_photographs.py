"""Photographs with one class each, with the place where they were taken if it is known, or with
captions: the image set of both.  H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from gestalt.data_modules.labels.image_set import ImageSetSample, LabelSet
from gestalt.data_modules.pixels.photographs import open_rgb, to_tensor

Described = tuple[Path, dict[str, Any]]
"""The file of a photograph, and the fields of its ``ImageSetSample`` besides image and name."""


@dataclass(eq=False)
class DescribedPhotographs:
    """Photographs, each with a class or with captions.

    Attributes:
        name: name of the image set.
        photographs: photographs whose files exist.
        label_sets: the label set of ``class_label``; empty for captions.
        official_length: number of images in the official split.
        no_instances: the reason why there are no instance maps, for messages.
        train_groups: number of photographs of each class at each place in the training split, if
            known.
        names: names of the photographs, in order, where records shall list them.
    """

    name: str
    photographs: Sequence[Described]
    _: KW_ONLY
    label_sets: Mapping[str, LabelSet]
    official_length: int | None
    no_instances: str | None = "its photographs have one class each and no maps"
    train_groups: Sequence[Sequence[int]] | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.photographs)

    @property
    def paths(self) -> list[Path]:
        """Files of the photographs, in order."""
        return [path for path, _ in self.photographs]

    def sample(self, index: int) -> ImageSetSample:
        """Read a photograph with what describes it."""
        path, facts = self.photographs[index]
        return {"image": to_tensor(open_rgb(path)), "name": path.stem, **facts}  # type: ignore[typeddict-item]


def evenly(photographs: Sequence[Described], limit: int | None) -> Sequence[Described]:
    """Return at most ``limit`` photographs, spread evenly over all classes, since they are sorted
    by class.
    """
    if limit is None or limit >= len(photographs):
        return photographs
    return [photographs[number * len(photographs) // limit] for number in range(limit)]
