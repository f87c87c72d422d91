"""MultiCropDataModule: streams views of images to pretraining, resumable at any step.  B batch, V views."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from data_modules.batches import GOOD, MultiCropBatch
from data_modules.corpora.bad_samples import REASONS, BadSample
from data_modules.loading import TrainingData
from data_modules.order import Key
from data_modules.pixels.crops import Place, View, draw_placed_crop
from data_modules.sources import Source


class Views(NamedTuple):
    """Views of one image.

    Attributes:
        large: global crops, each (3, H, W) uint8.
        small: local crops, each (3, H, W) uint8.
        places: where the global crops lie in the image.
        sample_id: index of the image in its source.
        epoch: epoch in which they are drawn.
        label: class of the image; -1 if the source has no labels.
        reason: index into ``REASONS`` if the image is bad, or ``GOOD``.
        place: shard and key of a bad image; empty for a good one.
    """

    large: list[Tensor]
    small: list[Tensor]
    places: list[Place]
    sample_id: int
    epoch: int
    label: int
    reason: int
    place: str


class MultiCropDataset(Dataset[Views]):
    """Views of a source's images by (epoch, index), so that workers need no state.  Crops are numbered, the global ones first."""

    def __init__(self, source: Source, *, large: Sequence[View], small: Sequence[View], seed: int) -> None:
        """Take the source and the views of its global (``large``) and local (``small``) crops."""
        self._source = source
        self._large = tuple(large)
        self._small = tuple(small)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, key: Key) -> Views:
        """Return the views of an image as drawn in that epoch, or the reason why it cannot be read."""
        epoch, index = key
        try:
            pixels = self._source.image(index, epoch)  # whatever its captions are
        except BadSample as bad:
            return Views([], [], [], index, epoch, -1, REASONS.index(bad.reason), f"{bad.where}: {bad.key}")
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        views = (*self._large, *self._small)
        drawn = [draw_placed_crop(image, view, seed=self._seed, epoch=epoch, index=index, crop=crop) for crop, view in enumerate(views)]
        crops, places = [pixels for pixels, _ in drawn], [place for _, place in drawn]
        split = len(self._large)
        label = self._source.label(index) if self._source.classes else -1
        return Views(crops[:split], crops[split:], places[:split], index, epoch, label, GOOD, "")


def collate_views(samples: Sequence[Views]) -> MultiCropBatch:
    """Stack the views of the readable images, one view after the other.

    Raises:
        ValueError: no image is readable.
    """
    readable = [sample for sample in samples if sample.reason == GOOD]
    if not readable:
        raise ValueError(
            f"none of the {len(samples)} images of a batch can be read; the first is {samples[0].place}; "
            "check the source with `gestalt data inspect`"
        )
    reason = torch.tensor([sample.reason for sample in samples])
    batch: MultiCropBatch = {
        "global_crops": _stacked([sample.large for sample in readable]),
        "local_crops": _stacked([sample.small for sample in readable]),
        "global_places": torch.tensor([sample.places for sample in readable]).transpose(0, 1).contiguous(),
        "sample_id": torch.tensor([sample.sample_id for sample in readable]),
        "epoch": torch.tensor([sample.epoch for sample in readable]),
        "valid": reason == GOOD,
        "reason": reason,
        "place": [sample.place for sample in samples],
    }
    if readable[0].label >= 0:
        batch["label"] = torch.tensor([sample.label for sample in readable])
    return batch


def _stacked(crops: list[list[Tensor]]) -> Tensor:
    """Stack B lists of V crops to (V, B, 3, H, W); without views to (0, B, 3, 0, 0)."""
    if not crops[0]:
        return torch.empty(0, len(crops), 3, 0, 0, dtype=torch.uint8)
    return torch.stack([torch.stack(view) for view in zip(*crops, strict=True)])


class MultiCropDataModule(TrainingData):
    """Batches of views of a source's images."""

    def __init__(
        self, source: Source, *, large: Sequence[View], small: Sequence[View], batch_size: int, workers: int, seed: int, window: int = 1
    ) -> None:
        """Take the views of the global (``large``) and local (``small``) crops; the other arguments are those of ``TrainingData``."""
        dataset = MultiCropDataset(source, large=large, small=small, seed=seed)
        super().__init__(source, dataset, collate=collate_views, batch_size=batch_size, workers=workers, seed=seed, window=window)
