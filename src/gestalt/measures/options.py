"""The types that scorers share: their options, and predictions of a batch."""

from collections.abc import Callable, Sequence
from typing import TypedDict

from torch import Tensor

Predicted = Sequence[Tensor] | Callable[[], Sequence[Tensor]]
"""The predictions of a batch, or a function that makes them where they are needed."""


class Options(TypedDict, total=False):
    """The arguments of ``Scorer`` that its subclasses pass on.

    Attributes:
        image_set: name of the set whose batches are scored; the benchmark's name by default.
        label_set: name of the labels in batches; the benchmark's name by default.
        length: number of images in the whole set, for the record; the images to draw are spread over it.
        official: number of images in the published set, for the record; None where it is unknown.
        image_names: digest of the images' names in order, for the record; None where they have none.
        pictures: number of images that are drawn.
        prompt_cache: True to keep the embeddings of large sets of prompts on disk.
    """

    image_set: str | None
    label_set: str | None
    length: int | None
    official: int | None
    image_names: str | None
    pictures: int
    prompt_cache: bool
