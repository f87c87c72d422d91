"""Random crops of images for pretraining.  B batch, V crops of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.loading import MultiCropBatch, validity
from gestalt.data_modules.pairs import Key, Source
from gestalt.data_modules.pixels.augment import View, draw_crop


@dataclass
class MultiCropDataset(Dataset[MultiCropBatch]):
    """Batches of crops of a source's images, each drawn by its view, by (epoch, index), so that
    workers need no state.
    """

    source: Source
    views: tuple[View, ...]
    seed: int

    def __getitem__(self, keys: Sequence[Key]) -> MultiCropBatch:
        """Return the crops of the readable images as drawn in those epochs, one crop number after
        the other.

        Raises:
            ValueError: no image is readable.
        """
        bad: list[BadSample | None] = []
        crops, places, readable = [], [], []
        for epoch, index in keys:
            try:
                pixels = self.source.image(index, epoch)  # its captions do not matter
            except BadSample as reason:
                bad.append(reason)
                continue
            bad.append(None)
            readable.append((epoch, index))
            image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            drawn = (
                draw_crop(image, view, seed=self.seed, epoch=epoch, index=index, crop=number)
                for number, view in enumerate(self.views)
            )
            pixels_of, places_of = zip(*drawn, strict=True)
            crops.append(torch.stack(pixels_of))
            places.append(places_of)
        fields = validity(bad)
        if not readable:
            raise ValueError(
                f"none of the {len(keys)} images of a batch can be read; the first is "
                f"{fields['place'][0]}; "
                "check the source with `gestalt data inspect`"
            )
        batch: Any = {
            "crops": torch.stack(crops, dim=1),
            "places": torch.tensor(places).transpose(0, 1).contiguous(),
            "sample_id": torch.tensor([index for _, index in readable]),
            "epoch": torch.tensor([epoch for epoch, _ in readable]),
            **fields,
        }
        if self.source.classes:
            batch["label"] = torch.tensor([self.source.label(index) for _, index in readable])
        return batch
