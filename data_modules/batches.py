"""What a batch is.  B batch, H W pixels.  Batches are uint8: the image tower normalises."""

from typing import NotRequired, TypedDict

from torch import Tensor

PADDING = -1
"""The index, and the sample id, of a sample that only fills a last batch: its label is all ``IGNORE``."""

IGNORE = 255
"""The label value that no metric counts."""


GOOD = -1
"""The reason of a pair that is valid."""


class ImageTextBatch(TypedDict):
    """Image-text pairs, ready for a training step."""

    image: Tensor
    """(B, 3, H, W) uint8."""
    text: list[str]
    """B captions."""
    sample_id: Tensor
    """(B,) int64, the index of the pair in its source."""
    epoch: Tensor
    """(B,) int64, the epoch that the pair was drawn in; with the sample id it fixes every random draw."""
    valid: Tensor
    """(B,) bool; False where the source could not give the pair: its image is black, its text empty, and nothing may count it."""
    reason: Tensor
    """(B,) int64, index into ``bad_samples.REASONS`` where the pair is not valid; ``GOOD`` elsewhere."""
    place: list[str]
    """B names of what is bad, for people: its shard and key; empty where the pair is valid."""


class MultiCropBatch(TypedDict):
    """Views of images, ready for a pretraining step.  V global and L local views of each image; a view is one crop number.

    B counts the images that could be read, A all that were asked for.  Ranks may differ in B: the gradient is then the mean of their means.
    """

    global_crops: Tensor
    """(V, B, 3, H, W) uint8."""
    local_crops: Tensor
    """(L, B, 3, H, W) uint8, of a smaller side; L may be 0."""
    sample_id: Tensor
    """(B,) int64, the index of the image in its source."""
    epoch: Tensor
    """(B,) int64, the epoch that the views were drawn in."""
    valid: Tensor
    """(A,) bool; False where the image could not be read and so has no row here."""
    reason: Tensor
    """(A,) int64, index into ``bad_samples.REASONS`` where the image could not be read; ``GOOD`` elsewhere."""
    place: list[str]
    """A names of what is bad, for people: its shard and key; empty where the image is there."""
    label: NotRequired[Tensor]
    """(B,) int64, index into the source's classes, where it has labels."""


class ImageSetBatch(TypedDict):
    """Samples of a validation set, at native size."""

    set: str
    """The image set's name."""
    image: list[Tensor]
    """B images, (3, H, W) uint8, each of its own size."""
    sample_id: Tensor
    """(B,) int64, the index in the set; ``PADDING`` where the sample only fills the batch."""
    name: list[str]
    """B names for people: a file stem or an index."""
    labels: NotRequired[dict[str, list[Tensor]]]
    """Name of a label set -> B class maps, (H, W) uint8, never resized; ``IGNORE`` is not scored.  One image may carry several sets."""
    instance: NotRequired[list[Tensor]]
    """B instance maps, (H, W) uint8: 0 background, 1..n objects, ``IGNORE`` void."""
    class_label: NotRequired[Tensor]
    """(B,) int64, index into the one label set of a classification set; ``PADDING`` where the sample only fills the batch."""
    place: NotRequired[Tensor]
    """(B,) int64, the number of the class that goes with the image's background by habit; ``PADDING`` as above.  Waterbirds' group is
    2 class_label + place."""
    captions: NotRequired[list[list[str]]]
    """B lists of captions."""
