"""Types of batches.  B batch, H W pixels.  Images are uint8: the image tower normalises."""

from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from gestalt.data_modules.corpora.bad_samples import GOOD, REASONS, BadSample


class ImageTextBatch(TypedDict):
    """Image-text pairs of a training step."""

    image: NotRequired[Tensor]
    """(B, 3, H, W) uint8; absent where ``features`` are read in its place."""
    features: NotRequired[Tensor]
    """(B, ...), the output of the frozen part of the image tower; zeros for a bad pair."""
    side: NotRequired[int]
    """Side of the images of ``features``, pixels."""
    text: list[str]
    """B captions."""
    column: list[str]
    """B columns of a table that the captions were drawn from; empty without one."""
    sample_id: Tensor
    """(B,) int64, the index of the pair in its source."""
    epoch: Tensor
    """(B,) int64, the epoch in which the pair was drawn; with the sample id it determines every
    random draw.
    """
    valid: Tensor
    """(B,) bool; False if the pair cannot be read: its image is black, its text is empty, and it
    must not be counted.
    """
    valid_count: int
    """Number of valid pairs, counted on the host, so that a step need not read ``valid`` from the
    device.
    """
    reason: Tensor
    """(B,) int64, index into ``bad_samples.REASONS`` of a bad pair; ``GOOD`` otherwise."""
    place: list[str]
    """B locations of bad pairs for messages, shard and key; empty for the others."""
    text_id: NotRequired[Tensor]
    """(B,) int64, a hash of each caption, if the loader was given a reader of captions."""
    token_ids: NotRequired[Tensor]
    """(B, N) int64, the captions as the text tower reads them; a bad pair has those of another
    caption.
    """
    token_mask: NotRequired[Tensor]
    """(B, N) bool, False on padding."""


class MultiCropBatch(TypedDict):
    """Crops of images of a pretraining step.  V crops of each image, numbered.

    B is the number of readable images, A the number of all images.  B may differ between ranks: the
    gradient is then the mean of the ranks' means.
    """

    crops: Tensor
    """(V, B, 3, H, W) uint8."""
    places: Tensor
    """(V, B, 4) float32, left, top, right and bottom of each crop as shares of the image; left >
    right in a mirrored crop.
    """
    sample_id: Tensor
    """(B,) int64, the index of the image in its source."""
    epoch: Tensor
    """(B,) int64, the epoch in which the crops were drawn."""
    valid: Tensor
    """(A,) bool; False if the image cannot be read and so has no row in the other fields."""
    reason: Tensor
    """(A,) int64, index into ``bad_samples.REASONS`` of an unreadable image; ``GOOD`` otherwise."""
    place: list[str]
    """A locations of unreadable images for messages, shard and key; empty for the others."""
    label: NotRequired[Tensor]
    """(B,) int64, index into the source's classes, if it has labels."""


class ImageSetBatch(TypedDict):
    """Samples of a validation set, at native size."""

    set: str
    """The image set's name."""
    image: list[Tensor]
    """B images, (3, H, W) uint8, each of its own size."""
    sample_id: Tensor
    """(B,) int64, the index in the set; ``PADDING`` for padding."""
    name: list[str]
    """B names for messages: file stem or index."""
    labels: NotRequired[dict[str, list[Tensor]]]
    """Name of a label set -> B class maps, (H, W), typed by the number of classes, never resized;
    ``ignored_value`` is not scored.
    """
    prediction: NotRequired[list[Tensor]]
    """B maps of classes or groups that another system predicted."""
    instance: NotRequired[list[Tensor]]
    """B instance maps, (H, W) uint8: 0 background, 1..n objects, ``IGNORE`` void."""
    class_label: NotRequired[Tensor]
    """(B,) int64, index into the only label set of a classification set; ``PADDING`` for
    padding.
    """
    place: NotRequired[Tensor]
    """(B,) int64, the class that usually occurs with the image's background; ``PADDING`` for
    padding.  Waterbirds' group is
    2 class_label + place."""
    captions: NotRequired[list[list[str]]]
    """B lists of captions."""


def validity(bad: list[BadSample | None]) -> dict[str, Any]:
    """Return the fields ``valid``, ``reason`` and ``place`` of a batch; None for a good sample."""
    reason = torch.tensor([GOOD if why is None else REASONS.index(why.reason) for why in bad])
    places = ["" if why is None else f"{why.where}: {why.key}" for why in bad]
    return {"valid": reason == GOOD, "reason": reason, "place": places}
