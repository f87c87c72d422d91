"""ImageSetDataModule: one validation loader an image set, whole batches dealt to ranks.  B batch, H W pixels."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from data_modules.batches import IGNORE, PADDING, ImageSetBatch
from data_modules.image_sets import ImageSet, ImageSetSample
from data_modules.loading import leave_group
from data_modules.sampling import DealtBatches

Numbered = tuple[int, ImageSetSample]
"""Sample id and sample."""


class ImageSetDataset(Dataset[Numbered]):
    """An image set by index, ``PADDING`` included."""

    def __init__(self, image_set: ImageSet) -> None:
        """Take the set."""
        self._image_set = image_set

    def __len__(self) -> int:
        """Number of samples, padding not counted."""
        return len(self._image_set)

    def __getitem__(self, index: int) -> Numbered:
        """A sample; for ``PADDING`` the first one with every pixel of its maps at ``IGNORE``."""
        if index != PADDING:
            return index, self._image_set.sample(index)
        sample = self._image_set.sample(0)
        sample["name"] = "padding"
        if "labels" in sample:
            sample["labels"] = {key: torch.full_like(label, IGNORE) for key, label in sample["labels"].items()}
        if "instance" in sample:
            sample["instance"] = torch.full_like(sample["instance"], IGNORE)
        if "class_label" in sample:
            sample["class_label"] = PADDING
        if "place" in sample:
            sample["place"] = PADDING
        return PADDING, sample


def collate_samples(numbered: Sequence[Numbered], *, name: str) -> ImageSetBatch:
    """List the samples of an image set; nothing is stacked, since sizes differ."""
    samples = [sample for _, sample in numbered]
    batch: ImageSetBatch = {
        "set": name,
        "image": [sample["image"] for sample in samples],
        "sample_id": torch.tensor([index for index, _ in numbered]),
        "name": [sample["name"] for sample in samples],
    }
    if "labels" in samples[0]:
        batch["labels"] = {key: [sample["labels"][key] for sample in samples] for key in samples[0]["labels"]}
    if "instance" in samples[0]:
        batch["instance"] = [sample["instance"] for sample in samples]
    if "class_label" in samples[0]:
        batch["class_label"] = torch.tensor([sample["class_label"] for sample in samples])
    if "place" in samples[0]:
        batch["place"] = torch.tensor([sample["place"] for sample in samples])
    if "captions" in samples[0]:
        batch["captions"] = [sample["captions"] for sample in samples]
    return batch


class ImageSetDataModule(LightningDataModule):
    """Validation loaders of any image sets, under a trainer or without one."""

    def __init__(self, image_sets: Sequence[ImageSet], *, batch_size: int, workers: int) -> None:
        """Take the sets; ``batch_size`` is that of one rank, ``workers`` the loading processes of each loader.

        Raises:
            ValueError: two sets of one name, whose metrics would share their keys.
        """
        super().__init__()
        names = [image_set.name for image_set in image_sets]
        if len(set(names)) < len(names):
            raise ValueError(f"image sets must have different names, found {names}")
        self.image_sets = tuple(image_sets)
        self._batch_size = batch_size
        self._workers = workers

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader an image set, in order; all of it on one rank where there is no trainer."""
        return [self._loader(image_set) for image_set in self.image_sets]

    def parts_scored(self, *, limit: int | None) -> list[str]:
        """A line for each set of which not the official number of images is scored, or no more than a limit.

        A limit that fits each epoch of training stays in the run's config, and would otherwise decide a final score in silence.
        """
        lines = []
        for one in self.image_sets:
            official = one.official_length
            of = "" if official in (None, len(one)) else f", the official split has {official}"
            if of or limit is not None:
                why = "" if limit is None else f" (evaluation.limit={limit}; evaluation.limit=null scores all)"
                lines.append(f"{one.name}: {len(one)} images are scored{of}{why}")
        return lines

    def _loader(self, image_set: ImageSet) -> DataLoader[Any]:
        trainer = self.trainer
        batches = DealtBatches(
            len(image_set),
            batch_size=self._batch_size,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
        )
        return DataLoader(
            ImageSetDataset(image_set),
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=partial(collate_samples, name=image_set.name),
            worker_init_fn=leave_group,
        )
