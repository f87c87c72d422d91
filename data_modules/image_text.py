"""ImageTextDataModule: streams image-text pairs to training, resumable at any step.  B batch, S image side."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.batches import ImageTextBatch
from data_modules.sampling import Key, ShuffledBatches
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


class TrainLoader(DataLoader[Pair]):
    """A loader that Lightning may resume in the middle of an epoch.

    Its state says which stream it reads. The position is not in it: the sampler asks the trainer for the step, which the checkpoint holds.
    """

    stream: dict[str, int | str]

    def state_dict(self) -> dict[str, Any]:
        """Length and digest of the source, batch size over all ranks, seed and steps an epoch."""
        return dict(self.stream)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Check that the stream is the one that the checkpoint was reading.

        Raises:
            ValueError: other pairs, another batch size, seed or number of steps an epoch.
        """
        changed = [f"{key} was {state.get(key)}, is {value}" for key, value in self.stream.items() if state.get(key) != value]
        if changed:
            raise ValueError(f"the checkpoint cannot go on with this data: {'; '.join(changed)}")


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
        sampler = ShuffledBatches(
            len(self._source),
            batch_size=self._batch_size,
            seed=self._seed,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            step=lambda: 0 if self.trainer is None else self.trainer.global_step,
            steps_per_epoch=self._steps_per_epoch(),
        )
        # PyTorch gives a worker one thread, so a fork of a threaded parent cannot wait for threads that it has not got;
        # workers stay for the whole run, because they keep drawn cut-outs
        loader = TrainLoader(
            ImageTextDataset(self._source),
            batch_sampler=sampler,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
            collate_fn=collate_pairs,
            pin_memory=torch.cuda.is_available(),
        )
        loader.stream = {
            "length": len(self._source),
            "digest": self._source.digest(),
            "batch_size": self._batch_size,
            "seed": self._seed,
            "steps_per_epoch": sampler.steps_per_epoch,
        }
        return loader

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
