"""MultiCropDataModule: views of a source's images for pretraining, resumable at any step.  B batch, S image side."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from data_modules.batches import GOOD, MultiCropBatch
from data_modules.corpora.bad_samples import REASONS, BadSample
from data_modules.loading import TrainLoader, train_loader
from data_modules.order import Key
from data_modules.pixels.crops import View, draw_crop
from data_modules.sources import LabelledSource, Source, labelled


class Views(NamedTuple):
    """One image's views.

    Attributes:
        large: global crops, each (3, H, W) uint8.
        small: local crops, each (3, H, W) uint8.
        sample_id: index of the image in its source.
        epoch: that they were drawn in.
        label: -1 where the source has none.
        reason: index into ``REASONS`` of an image that cannot be had; ``GOOD`` for a good one.
        place: shard and key of a bad one.
    """

    large: list[Tensor]
    small: list[Tensor]
    sample_id: int
    epoch: int
    label: int
    reason: int
    place: str


class MultiCropDataset(Dataset[Views]):
    """A source's views by (epoch, index), so that workers need no state.  Crops are numbered, the global ones first."""

    def __init__(self, source: Source, *, large: Sequence[View], small: Sequence[View], seed: int) -> None:
        """Take the source and how its global (``large``) and local (``small``) crops are drawn."""
        self._source = source
        self._labels: LabelledSource | None = labelled(source)
        self._large = tuple(large)
        self._small = tuple(small)
        self._seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self._source)

    def __getitem__(self, key: Key) -> Views:
        """The views of an image as they are drawn in that epoch, or why there are none."""
        epoch, index = key
        try:
            pixels, _ = self._source.pair(index, epoch)
        except BadSample as bad:
            return Views([], [], index, epoch, -1, REASONS.index(bad.reason), f"{bad.where}: {bad.key}")
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        views = (*self._large, *self._small)
        crops = [draw_crop(image, view, seed=self._seed, epoch=epoch, index=index, crop=crop) for crop, view in enumerate(views)]
        split = len(self._large)
        label = -1 if self._labels is None else self._labels.label(index)
        return Views(crops[:split], crops[split:], index, epoch, label, GOOD, "")


def collate_views(samples: Sequence[Views]) -> MultiCropBatch:
    """Stack the same view of every image that can be had, one view after the other.

    Raises:
        ValueError: none of them can be had.
    """
    asked, samples = samples, [sample for sample in samples if sample.reason == GOOD]
    if not samples:
        raise ValueError(f"none of the {len(asked)} images of a batch can be read; the first is {asked[0].place}")
    reason = torch.tensor([sample.reason for sample in asked])
    batch: MultiCropBatch = {
        "global_crops": _stacked([sample.large for sample in samples]),
        "local_crops": _stacked([sample.small for sample in samples]),
        "sample_id": torch.tensor([sample.sample_id for sample in samples]),
        "epoch": torch.tensor([sample.epoch for sample in samples]),
        "valid": reason == GOOD,
        "reason": reason,
        "place": [sample.place for sample in asked],
    }
    if samples[0].label >= 0:
        batch["label"] = torch.tensor([sample.label for sample in samples])
    return batch


def _stacked(crops: list[list[Tensor]]) -> Tensor:
    """B lists of V crops to (V, B, 3, H, W); without a view to (0, B, 3, 0, 0)."""
    if not crops[0]:
        return torch.empty(0, len(crops), 3, 0, 0, dtype=torch.uint8)
    return torch.stack([torch.stack(view) for view in zip(*crops, strict=True)])


class MultiCropDataModule(LightningDataModule):
    """Batches of views from a source's images."""

    def __init__(
        self, source: Source, *, large: Sequence[View], small: Sequence[View], batch_size: int, workers: int, seed: int, window: int = 1
    ) -> None:
        """Take the parts.

        Args:
            source: the images; its texts are not used.
            large: how the global crops are drawn.
            small: how the local crops are drawn.
            batch_size: images a step, over all ranks.
            workers: processes that load on each rank; 0 loads in the training process.
            seed: of the order of images and of their crops.
            window: shards of the source that are shuffled together.
        """
        super().__init__()
        self._source = source
        self._dataset = MultiCropDataset(source, large=large, small=small, seed=seed)
        self._batch_size = batch_size
        self._workers = workers
        self._seed = seed
        self._window = window

    def train_dataloader(self) -> TrainLoader:
        """This rank's batches from the trainer's step on; from the first one on one rank where there is no trainer."""
        return train_loader(
            self._dataset,
            self._source,
            collate=collate_views,
            batch_size=self._batch_size,
            workers=self._workers,
            seed=self._seed,
            trainer=self.trainer,
            window=self._window,
        )
