"""ImageTextDataModule: streams image-text pairs to training, resumable at any step.  B batch, S image side."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.batches import GOOD, ImageTextBatch
from data_modules.corpora.bad_samples import REASONS, BadSample
from data_modules.loading import TrainingData, TrainLoader
from data_modules.order import Key
from data_modules.sources import Source
from data_modules.validation import ImageSetDataModule


class Pair(NamedTuple):
    """One pair of a batch.

    Attributes:
        image: (3, S, S) uint8; None if the pair is bad.
        text: its caption; empty if the pair is bad.
        sample_id: its index in the source.
        epoch: epoch in which it is drawn.
        reason: index into ``REASONS`` if the pair is bad, or ``GOOD``.
        place: shard and key of a bad pair; empty for a good one.
    """

    image: Tensor | None
    text: str
    sample_id: int
    epoch: int
    reason: int
    place: str


class ImageTextDataset(Dataset[Pair]):
    """Pairs of a source by (epoch, index), so that workers need no state."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, key: Key) -> Pair:
        """Return the pair as drawn in that epoch, or the reason why it cannot be read."""
        epoch, index = key
        try:
            image, text = self._source.pair(index, epoch)
        except BadSample as bad:
            return Pair(None, "", index, epoch, REASONS.index(bad.reason), f"{bad.where}: {bad.key}")
        return Pair(image, text, index, epoch, GOOD, "")


def collate_pairs(pairs: Sequence[Pair], *, size: int) -> ImageTextBatch:
    """Stack pairs into a batch; a bad pair gets a black image, (3, size, size)."""
    black = torch.zeros(3, size, size, dtype=torch.uint8)
    reason = torch.tensor([pair.reason for pair in pairs])
    return {
        "image": torch.stack([black if pair.image is None else pair.image for pair in pairs]),
        "text": [pair.text for pair in pairs],
        "sample_id": torch.tensor([pair.sample_id for pair in pairs]),
        "epoch": torch.tensor([pair.epoch for pair in pairs]),
        "valid": reason == GOOD,
        "valid_count": sum(pair.reason == GOOD for pair in pairs),
        "reason": reason,
        "place": [pair.place for pair in pairs],
    }


class ImageTextDataModule(TrainingData):
    """Training pairs of a source, and image sets for validation."""

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
        """Take the image side S in pixels and the validation sets, if any; the other arguments are those of ``TrainingData``."""
        collate = partial(collate_pairs, size=size)
        super().__init__(
            source, ImageTextDataset(source), collate=collate, batch_size=batch_size, workers=workers, seed=seed, window=window
        )
        self._validation = validation

    def about(self) -> dict[str, Any]:
        """Return facts for the run's result: digest, numbers of samples and shards, samples left over by an epoch, the source's facts."""
        counts = {"samples": len(self._source), "shards": len(self._source.blocks()), "left_over": len(self._source) % self._batch_size}
        return {"digest": self._source.digest(), **counts, **self._source.about()}

    def summary(self) -> str:
        """Return the same facts as one line of text, and a second one if ``data.limit`` leaves pairs out."""
        facts = self.about()
        counted = f"{facts['shards']:,} shard{'s' if facts['shards'] != 1 else ''}"
        parts = [f"data: {facts['samples']:,} pairs in {counted}, digest {facts['digest']}"]
        if facts["left_over"]:
            parts.append(f"{facts['left_over']} left over by an epoch open the next")
        faults = {key.removesuffix("_shards"): value for key, value in facts.items() if key.endswith("_shards")}
        parts += [f"{value['count']} shards {fault}, the first {value['first']}" for fault, value in faults.items()]
        if self._source.in_sequence:
            parts.append("read in sequence, not shuffled: after a resume each worker reads from the epoch's start to the run's position")
        lines = ["; ".join(parts)]
        if left_out := facts.get("left_out_by_limit"):
            lines.append(
                f"ATTENTION: data.limit leaves out {left_out:,} of the data's pairs, which a scale may have set; data.limit=null takes all"
            )
        return "\n".join(lines)

    def train_dataloader(self) -> TrainLoader:
        """Return this rank's batches from the trainer's step on; without a trainer, all batches of one rank from the first on.

        Raises:
            ValueError: gradient accumulation, under which steps do not count batches, or as ``TrainingData``.
        """
        if self.trainer is not None and self.trainer.accumulate_grad_batches != 1:
            raise ValueError(
                f"trainer.accumulate_grad_batches is {self.trainer.accumulate_grad_batches}; the data's position counts steps: it must be 1"
            )
        return super().train_dataloader()

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader for each validation set; an empty list without validation, which needs ``limit_val_batches=0``."""
        if self._validation is None:
            return []
        self._validation.trainer = self.trainer
        return self._validation.val_dataloader()

    def _steps_per_epoch(self) -> int | None:
        """Return the steps an epoch under the trainer's ``limit_train_batches``, a number or a share in [0, 1]; None for all."""
        limit = None if self.trainer is None else self.trainer.limit_train_batches
        whole = len(self._source) // self._batch_size
        if limit is None or limit == 0 or whole == 0:
            return None
        return max(1, min(limit, whole) if isinstance(limit, int) else int(limit * whole))
