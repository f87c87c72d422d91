"""ImageSetDataModule: a validation loader for each image set, whose batches are dealt whole to the
ranks.  B batch, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from gestalt.data_modules.labels.image_set import ImageSet, ImageSetSample
from gestalt.data_modules.loading import ImageSetBatch, leave_group
from gestalt.data_modules.order import DealtBatches
from gestalt.support.label_values import IGNORE, PADDING, ignored_value


@dataclass
class ImageSetDataset(Dataset[ImageSetBatch]):
    """Batches of an image set by the indices of their samples, including ``PADDING``."""

    image_set: ImageSet

    def __getitem__(self, indices: list[int]) -> ImageSetBatch:
        """Return the samples of a batch, in lists, since sizes differ."""
        samples: list[Any] = [self.sample(index) for index in indices]
        batch: Any = {"set": self.image_set.name, "sample_id": torch.tensor(indices)}
        for key in samples[0]:
            values = [sample[key] for sample in samples]
            if key == "labels":
                batch[key] = {name: [maps[name] for maps in values] for name in values[0]}
            else:
                batch[key] = torch.tensor(values) if key in ("class_label", "place") else values
        return batch

    def sample(self, index: int) -> ImageSetSample:
        """Return a sample; for ``PADDING`` the first one with no pixel of its maps scored."""
        if index != PADDING:
            return self.image_set.sample(index)
        sample = self.image_set.sample(0)
        sample["name"] = "padding"
        if "labels" in sample:
            sets = self.image_set.label_sets
            sample["labels"] = {
                key: torch.full_like(label, ignored_value(len(sets[key].names)))
                for key, label in sample["labels"].items()
            }
        if "instance" in sample:
            sample["instance"] = torch.full_like(sample["instance"], IGNORE)
        for key in {"class_label", "place"} & sample.keys():
            sample[key] = PADDING  # type: ignore[literal-required]
        return sample


class ValidationLoader(DataLoader[Any]):
    """A loader that ends its loading processes with each pass.

    After an error, the traceback keeps the pass alive in a cycle of references: Python would end
    the processes only at its exit, and wait for each of them.
    """

    def __iter__(self) -> Any:
        """Yield the batches."""
        batches: Any = super().__iter__()
        try:
            yield from batches
        finally:
            if self.num_workers > 0:
                batches._shutdown_workers()


@dataclass(eq=False, repr=False)
class ImageSetDataModule(LightningDataModule):
    """Validation loaders of image sets, with or without a trainer.

    Attributes:
        image_sets: the sets.
        batch_size: of one rank.
        workers: number of loading processes of each loader.

    Raises:
        ValueError: two sets with the same name, whose metrics would share their keys.
    """

    image_sets: Sequence[ImageSet]
    _: KW_ONLY
    batch_size: int
    workers: int

    def __post_init__(self) -> None:
        super().__init__()
        names = [image_set.name for image_set in self.image_sets]
        if len(set(names)) < len(names):
            raise ValueError(f"image sets must have different names, found {names}")

    def val_dataloader(self) -> list[ValidationLoader]:
        """Return one loader for each image set; without a trainer, each loads its whole set."""
        trainer = self.trainer
        for image_set in self.image_sets if self.workers else ():
            if hasattr(image_set, "prepare"):
                image_set.prepare()
        return [
            ValidationLoader(
                ImageSetDataset(image_set),
                batch_size=None,
                sampler=DealtBatches(
                    len(image_set),
                    batch_size=self.batch_size,
                    rank=0 if trainer is None else trainer.global_rank,
                    world_size=1 if trainer is None else trainer.world_size,
                ),
                num_workers=self.workers,
                worker_init_fn=leave_group,
            )
            for image_set in self.image_sets
        ]

    def parts_scored(self, *, limit: int | None) -> list[str]:
        """Return a warning for each set that is scored on fewer images than its official split, or
        under a limit.

        A limit meant for validation during training stays in the run's config, and would otherwise
        silently limit the final score.
        """
        lines = []
        for images in self.image_sets:
            notes = []
            if images.official_length not in (None, len(images)):
                notes.append(f", the official split has {images.official_length}")
            if limit is not None:
                notes.append(f" (evaluation.limit={limit}; evaluation.limit=null scores all)")
            if notes:
                lines.append(f"{images.name}: {len(images)} images are scored{''.join(notes)}")
        return lines
