"""Build what makes a cache of features and what reads it: the key of weights and data, the loader,
the readers.  B batch, S image side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gestalt.config.schema import Experiment
from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.loading import leave_group
from gestalt.data_modules.order import Key
from gestalt.data_modules.pixels.augment import RATIO
from gestalt.data_modules.sources import Source
from gestalt.encoders.keys import train_size
from gestalt.losses.noun_list import NounList
from gestalt.measures.evaluation.weights import tensors_hash
from gestalt.model import DualEncoder
from gestalt.runs.cache_key import FILE, IMAGES, SUMS, Description, key_of
from gestalt.runs.training import caption_reader
from gestalt.support.arrays import map_array
from gestalt.support.keys import refuse


def whole_key(config: Experiment, model: DualEncoder, source: Source) -> dict[str, Any]:
    """Return all that features depend on: configuration, weights, crops and data."""
    data = config.data
    crops = f"shares {data.crop_scale}, ratios {RATIO}, bicubic"  # of stored images
    if data.flip or data.colour:
        crops += f", mirrored {data.flip}, colours {data.colour}"
    return {
        **key_of(config),
        "image weights": tensors_hash(model.image_tower.frozen_weights()),
        "crop": crops,
        "data digest": source.digest(),
        "pairs": len(source),
    }


def connect_loader(
    config: Experiment,
    model: DualEncoder,
    data: ImageTextDataModule,
    nouns: NounList | None,
) -> list[str]:
    """Let the loading processes tokenise captions, read what the loss terms need, and read the
    cached features of ``data.features``.

    Returns:
        Lines that say which features are read.

    Raises:
        ConfigError: the cache is incomplete, or of other weights, data, keys or shape; the message
            names each difference.
    """
    data.pairs.read_captions = caption_reader(model, nouns)
    if config.data.features is None:
        return []
    assert config.data.crops is not None
    folder, source = Path(config.data.features).expanduser(), data.source
    cache = Description.read(folder)
    cache.check(folder, whole_key(config, model, source))
    shapes = {IMAGES: (cache.stored, (cache.written, *cache.shape))}
    if (folder / SUMS).exists():  # not in a cache of an older version
        shapes[SUMS] = ("uint32", (cache.written,))
    for name, (kind, shape) in shapes.items():
        values = map_array(folder / name)
        if (str(values.dtype), values.shape) != (kind, shape):
            why = f"holds {values.dtype} {values.shape}, and {FILE} says {kind} {shape}"
            refuse("data.features", folder, f"{name} {why}; make it again by `gestalt features`")
    data.pairs.features = CachedImages(
        cache, folder, side=train_size(config.image), crops=config.data.crops, pairs=len(source)
    )
    return [f"data.features: {cache.written:,} images in {cache.stored} from {folder}"]


@dataclass
class CachedImages:
    """Features of images by (epoch, index).

    Attributes:
        cache, folder: the cache; row c * pairs + i has crop c of image i.
        side: S.
        crops: number of crops of each image.
        pairs: number of images.
    """

    cache: Description
    folder: Path
    side: int
    crops: int
    pairs: int

    def _row(self, key: Key) -> int:
        epoch, index = key
        return epoch % self.crops * self.pairs + index

    def about(self) -> dict[str, Any]:
        """Return the number of crops and of bad ones, and the number format of the files."""
        return {"crops": self.crops, "bad": len(self.cache.bad), "stored": self.cache.stored}

    def bad(self, key: Key) -> BadSample | None:
        """Return why an image could not be read."""
        fault = self.cache.bad.get(str(self._row(key)))
        return None if fault is None else BadSample(fault[0], where=fault[1], key=fault[2])

    def read(self, keys: Sequence[Key]) -> Tensor:
        """Return the features of images, in the number format in which they were computed.

        Raises:
            ValueError: they cannot be read, or differ from their checksum.
        """
        numbers = [self._row(key) for key in keys]
        rows = map_array(self.folder / IMAGES)[numbers]
        if (self.folder / SUMS).exists():
            found = [crc32(row) for row in rows]
            sums = map_array(self.folder / SUMS)[numbers]
            for number, one, other in zip(numbers, found, sums, strict=True):
                if one != other:
                    raise ValueError(
                        f"{self.folder / IMAGES}: row {number} is damaged: its checksum differs; "
                        "copy the cache again, or make it again by `gestalt features`"
                    )
        return torch.from_numpy(rows).to(getattr(torch, self.cache.computed))


Loaded = tuple[Tensor, dict[str, list[str]]]
"""Images (B, 3, S, S) uint8 of consecutive rows, black where they are bad; and row -> reason, where
and key of each bad one.
"""


def load_crops(spans: list[range], *, source: Source, size: int, workers: int) -> Iterator[Loaded]:
    """Yield the images of each range of rows of a cache, read by loading processes."""
    yield from DataLoader(
        spans,  # type: ignore[arg-type]  # a list stands in for a data set
        batch_size=None,
        num_workers=workers,
        collate_fn=partial(_read_crops, source=source, size=size),
        worker_init_fn=leave_group,
    )


def _read_crops(rows: range, *, source: Source, size: int) -> Loaded:
    images = torch.zeros(len(rows), 3, size, size, dtype=torch.uint8)
    bad = {}
    for number, row in enumerate(rows):
        crop, index = divmod(row, len(source))
        try:
            images[number] = source.image(index, crop)
        except BadSample as fault:
            bad[str(row)] = [fault.reason, fault.where, fault.key]
    return images, bad
