"""ImageTextDataModule: streams image-text pairs to training, resumable at any step.  B batch, S image side."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.batches import ImageTextBatch
from data_modules.loading import TrainLoader, train_loader
from data_modules.sampling import Key
from data_modules.sources import Source
from data_modules.validation import ImageSetDataModule

Pair = tuple[Tensor, str, int, int]
"""Image (3, S, S) uint8, caption, sample id, epoch."""


class ImageTextDataset(Dataset[Pair]):
    """A source by (epoch, index), so that workers need no state."""

    def __init__(self, source: Source) -> None:
        """Take the source."""
        self._source = source

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._source)

    def __getitem__(self, key: Key) -> Pair:
        """The pair as it is drawn in that epoch."""
        epoch, index = key
        image, text = self._source.pair(index, epoch)
        return image, text, index, epoch


def collate_pairs(pairs: Sequence[Pair]) -> ImageTextBatch:
    """Stack pairs of one size into a batch."""
    images, texts, ids, epochs = zip(*pairs, strict=True)
    return {"image": torch.stack(images), "text": list(texts), "sample_id": torch.tensor(ids), "epoch": torch.tensor(epochs)}


class ImageTextDataModule(LightningDataModule):
    """Training pairs from a source, and image sets to validate on."""

    def __init__(self, source: Source, *, batch_size: int, workers: int, seed: int, validation: ImageSetDataModule | None = None) -> None:
        """Take the parts.

        Args:
            source: the pairs.
            batch_size: pairs a step, over all ranks.
            workers: processes that load on each rank; 0 loads in the training process.
            seed: of the order of pairs.
            validation: gives the validation loaders; None for none.
        """
        super().__init__()
        self._source = source
        self._batch_size = batch_size
        self._workers = workers
        self._seed = seed
        self._validation = validation

    def train_dataloader(self) -> TrainLoader:
        """This rank's batches from the trainer's step on; from the first one on one rank where there is no trainer.

        Raises:
            ValueError: gradient accumulation, under which steps would not count batches, or as ``ShuffledBatches``.
        """
        trainer = self.trainer
        if trainer is not None and trainer.accumulate_grad_batches != 1:
            raise ValueError(
                f"trainer.accumulate_grad_batches is {trainer.accumulate_grad_batches}; the data's position counts steps: it must be 1"
            )
        return train_loader(
            ImageTextDataset(self._source),
            self._source,
            collate=collate_pairs,
            batch_size=self._batch_size,
            workers=self._workers,
            seed=self._seed,
            trainer=trainer,
            steps_per_epoch=self._steps_per_epoch(),
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The loaders of the validation image sets, one a set; none without validation, where the trainer wants ``limit_val_batches=0``."""
        if self._validation is None:
            return []
        self._validation.trainer = self.trainer
        return self._validation.val_dataloader()

    def _steps_per_epoch(self) -> int | None:
        """Steps an epoch under the trainer's ``limit_train_batches``, a number or a share in [0, 1]; None for all."""
        limit = None if self.trainer is None else self.trainer.limit_train_batches
        whole = len(self._source) // self._batch_size
        if limit is None or limit == 0 or whole == 0:
            return None
        return max(1, min(limit, whole) if isinstance(limit, int) else int(limit * whole))
