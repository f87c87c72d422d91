"""ImageTextDataModule: streams image-text pairs to training, resumable at any step.  B batch, S image side."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.batches import GOOD, ImageTextBatch
from data_modules.corpora.bad_samples import REASONS, BadSample
from data_modules.loading import TrainLoader, train_loader
from data_modules.order import Key
from data_modules.sources import Source, about_source, read_in_sequence
from data_modules.validation import ImageSetDataModule

SEQUENCE = "; read in sequence, not shuffled: after a resume each worker reads forward from the epoch's start to where the run was"


class Pair(NamedTuple):
    """One pair of a batch, or the reason why it cannot be had.

    Attributes:
        image: (3, S, S) uint8; None where the pair is bad.
        text: its caption; empty where it is bad.
        sample_id: its index in the source.
        epoch: that it was drawn in.
        reason: index into ``REASONS``; ``GOOD`` for a good one.
        place: shard and key of a bad one.
    """

    image: Tensor | None
    text: str
    sample_id: int
    epoch: int
    reason: int
    place: str


class ImageTextDataset(Dataset[Pair]):
    """A source by (epoch, index), so that workers need no state."""

    def __init__(self, source: Source) -> None:
        """Take the source."""
        self._source = source

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._source)

    def __getitem__(self, key: Key) -> Pair:
        """The pair as it is drawn in that epoch, or why there is none."""
        epoch, index = key
        try:
            image, text = self._source.pair(index, epoch)
        except BadSample as bad:
            return Pair(None, "", index, epoch, REASONS.index(bad.reason), f"{bad.where}: {bad.key}")
        return Pair(image, text, index, epoch, GOOD, "")


def collate_pairs(pairs: Sequence[Pair], *, size: int) -> ImageTextBatch:
    """Stack pairs into a batch; the image of a bad one is black, (3, size, size)."""
    black = torch.zeros(3, size, size, dtype=torch.uint8)
    reason = torch.tensor([pair.reason for pair in pairs])
    return {
        "image": torch.stack([black if pair.image is None else pair.image for pair in pairs]),
        "text": [pair.text for pair in pairs],
        "sample_id": torch.tensor([pair.sample_id for pair in pairs]),
        "epoch": torch.tensor([pair.epoch for pair in pairs]),
        "valid": reason == GOOD,
        "reason": reason,
        "place": [pair.place for pair in pairs],
    }


class ImageTextDataModule(LightningDataModule):
    """Training pairs from a source, and image sets to validate on."""

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        batch_size: int,
        workers: int,
        seed: int,
        window: int = 1,
        validation: ImageSetDataModule | None = None,
    ) -> None:
        """Take the parts.

        Args:
            source: the pairs.
            size: side of its images, pixels.
            batch_size: pairs a step, over all ranks.
            workers: processes that load on each rank; 0 loads in the training process.
            seed: of the order of pairs.
            window: shards of the source that are shuffled together.
            validation: gives the validation loaders; None for none.
        """
        super().__init__()
        self._source = source
        self._size = size
        self._batch_size = batch_size
        self._workers = workers
        self._seed = seed
        self._window = window
        self._validation = validation

    def about(self) -> dict[str, Any]:
        """For a run's result: what was read, what an epoch leaves over for the next, and what the source says of itself."""
        counts = {"samples": len(self._source), "shards": len(self._source.blocks()), "left_over": len(self._source) % self._batch_size}
        return {"digest": self._source.digest(), **counts, **about_source(self._source)}

    def summary(self) -> str:
        """The same in one line, for people."""
        about = self.about()
        over = f"; {about['left_over']} left over by an epoch open the next" if about["left_over"] else ""
        shards = {key.removesuffix("_shards"): value for key, value in about.items() if key.endswith("_shards")}
        wrong = "".join(f"; {value['count']} shards {what}, the first {value['first']}" for what, value in shards.items())
        sequence = SEQUENCE if read_in_sequence(self._source) else ""
        return f"data: {about['samples']:,} pairs in {about['shards']:,} shards, digest {about['digest']}{over}{wrong}{sequence}"

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
            collate=partial(collate_pairs, size=self._size),
            batch_size=self._batch_size,
            workers=self._workers,
            seed=self._seed,
            trainer=trainer,
            window=self._window,
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
