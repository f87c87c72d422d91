"""MultiCropDataModule: streams random crops of images to pretraining, resumable at any step.  B
batch, V crops of an image.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from gestalt.data_modules.batches import MultiCropBatch, validity
from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.loading import TrainingData
from gestalt.data_modules.order import Key
from gestalt.data_modules.pixels.crops import Place, View, draw_crop
from gestalt.data_modules.sources import Source


class Crops(NamedTuple):
    """Crops of one image.

    Attributes:
        crops: each (3, S, S) uint8; empty if the image is bad.
        places: where they lie in the image.
        sample_id: index of the image in its source.
        epoch: epoch in which they are drawn.
        label: class of the image; -1 if the source has no labels.
        bad: why the image cannot be read; None for a good one.
    """

    crops: list[Tensor]
    places: list[Place]
    sample_id: int
    epoch: int
    label: int
    bad: BadSample | None = None


@dataclass
class MultiCropDataset(Dataset[Crops]):
    """Crops of a source's images, each drawn by its view, by (epoch, index), so that workers need
    no state.
    """

    source: Source
    views: tuple[View, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Crops:
        """Return the crops of an image as drawn in that epoch, or the reason why it cannot be
        read.
        """
        epoch, index = key
        try:
            pixels = self.source.image(index, epoch)  # whatever its captions are
        except BadSample as bad:
            return Crops([], [], index, epoch, -1, bad)
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        crops, places = [], []
        for number, view in enumerate(self.views):
            crop, place = draw_crop(
                image, view, seed=self.seed, epoch=epoch, index=index, crop=number
            )
            crops.append(crop)
            places.append(place)
        label = self.source.label(index) if self.source.classes else -1
        return Crops(crops, places, index, epoch, label)


def collate_crops(samples: list[Crops]) -> MultiCropBatch:
    """Stack the crops of the readable images, one crop number after the other.

    Raises:
        ValueError: no image is readable.
    """
    fields = validity([sample.bad for sample in samples])
    readable = [sample for sample in samples if sample.bad is None]
    if not readable:
        raise ValueError(
            f"none of the {len(samples)} images of a batch can be read; the first is "
            f"{fields['place'][0]}; "
            "check the source with `gestalt data inspect`"
        )
    batch: Any = {
        "crops": torch.stack([torch.stack(sample.crops) for sample in readable], dim=1),
        "places": torch.tensor([sample.places for sample in readable]).transpose(0, 1).contiguous(),
        "sample_id": torch.tensor([sample.sample_id for sample in readable]),
        "epoch": torch.tensor([sample.epoch for sample in readable]),
        **fields,
    }
    if readable[0].label >= 0:
        batch["label"] = torch.tensor([sample.label for sample in readable])
    return batch


class MultiCropDataModule(TrainingData):
    """Batches of crops of a source's images."""

    def __init__(
        self, source: Source, *, views: tuple[View, ...], seed: int, **loading: Any
    ) -> None:
        """Take the parameters of each crop; the other arguments are those of ``TrainingData``."""
        dataset = MultiCropDataset(source, views=views, seed=seed)
        super().__init__(source, dataset, collate=collate_crops, seed=seed, **loading)
