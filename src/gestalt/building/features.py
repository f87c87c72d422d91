"""Build what makes a cache of features and what reads it: the key of weights and data, the loader, the readers.  B batch, S image side."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_modules.corpora.bad_samples import BadSample
from data_modules.image_text import ImageTextDataModule
from data_modules.loading import leave_group
from data_modules.order import Key
from data_modules.pixels.augment import RATIO, SCALE
from data_modules.sources import Source
from gestalt.building.source import pairs_a_step, train_size
from gestalt.building.terms import Negatives, negatives_of
from gestalt.building.training import caption_reader, fields_of_terms
from gestalt.config.schema import Experiment, refuse
from gestalt.evaluation.weights import tensors_hash, weights_hash
from gestalt.features.key import Description, differences, image_key, refuse_differences, text_differences, text_key
from gestalt.features.making import Loaded, bad_images, missing_images
from gestalt.features.rows import RowReader, Rows
from gestalt.features.texts import TextReader
from gestalt.loss import text_ids
from gestalt.model import DualEncoder
from gestalt.terms.noun_list import NounList

CROPS = f"shares {SCALE}, ratios {RATIO}, bicubic"
"""The random crops of stored images, in words."""


def whole_image_key(config: Experiment, model: DualEncoder, source: Source) -> dict[str, Any]:
    """Return all that image features depend on: configuration, weights, crops and data."""
    weights = tensors_hash(model.image_tower.frozen_weights())
    return {**image_key(config), "image weights": weights, "crop": CROPS, "data digest": source.digest(), "pairs": len(source)}


def whole_text_key(config: Experiment, model: DualEncoder) -> dict[str, Any]:
    """Return all that text features depend on; empty if the text tower is trained."""
    return {**text_key(config), "text weights": weights_hash(model.text_tower)} if config.text.frozen else {}


def epochs_begun(config: Experiment, source: Source, *, total_steps: int) -> int:
    """Return the number of epochs whose captions a run reads."""
    return -(-total_steps * pairs_a_step(config) // len(source))


def connect_loader(
    config: Experiment, model: DualEncoder, data: ImageTextDataModule, *, total_steps: int, nouns: NounList | None = None
) -> list[str]:
    """Let the loading processes tokenise captions and read what the loss terms need, or read the cached features of ``data.features``.

    Returns:
        Lines that say what is read.

    Raises:
        ConfigError: the cache is incomplete, or of other weights, data or keys; the message names each difference.
    """
    negatives = negatives_of(config, model, nouns=nouns)
    if config.data.features is None:
        data.read_captions_by(caption_reader(model, nouns=nouns, negatives=negatives))
        return []
    folder, source = Path(config.data.features).expanduser(), data.source
    cache = Description.read(folder)
    found = differences(cache.image, whole_image_key(config, model, source)) + text_differences(cache, whole_text_key(config, model))
    begun = epochs_begun(config, source, total_steps=total_steps)
    if config.text.frozen and cache.text and cache.epochs < begun:
        found.append(f"the run draws captions of {begun} epochs, but the cache has {cache.epochs}")
    refuse_differences(folder, found)
    rows = Rows.read(cache.image_rows)
    if not cache.complete or missing_images(rows, folder):
        refuse("data.features", folder, "not complete; run its `gestalt features` command again to complete it")
    assert config.data.crops is not None
    data.read_features_by(CachedImages(rows, folder, side=train_size(config.image), crops=config.data.crops, pairs=len(source)))
    line = f"data.features: {rows.count:,} images in {rows.stored} from {folder}"
    if not config.text.frozen or cache.text_rows is None:
        data.read_captions_by(caption_reader(model, nouns=nouns, negatives=negatives))
        return [f"{line}; the text tower reads captions"]
    texts = TextReader(Rows.read(cache.text_rows), folder, max_length=config.text.max_length)
    data.read_captions_by(partial(_read_texts, reader=texts, nouns=nouns, negatives=negatives))
    return [f"{line}, and their captions' tokens"]


def _read_texts(
    texts: list[str], keys: Sequence[Key], *, reader: TextReader, nouns: NounList | None, negatives: Negatives | None
) -> dict[str, Tensor]:
    """Return ids and tokens of a batch's captions; a bad pair has the tokens of a good one, or of any if all are bad."""
    ids = text_ids(texts)
    good = next((number for number, text in enumerate(texts) if text), None)
    wanted = torch.stack([ids[number if text or good is None else good] for number, text in enumerate(texts)])
    fields = {"text_id": ids, **fields_of_terms(texts, keys, nouns=nouns, negatives=negatives)}
    return {**fields, **reader.read(reader.any_id(len(texts)) if good is None else wanted)}


class CachedImages:
    """Features of images by (epoch, index).

    Args:
        rows, folder: layout and folder of the cache; row c * pairs + i has crop c of image i.
        side: S.
        crops: number of crops of each image.
        pairs: number of images.
    """

    def __init__(self, rows: Rows, folder: Path, *, side: int, crops: int, pairs: int) -> None:
        self.side = side
        self._reader = RowReader(rows, folder)
        self._crops = crops
        self._pairs = pairs
        self._bad = bad_images(rows, folder)

    def _row(self, key: Key) -> int:
        epoch, index = key
        return epoch % self._crops * self._pairs + index

    def about(self) -> dict[str, Any]:
        """Return the number of crops and of bad ones, and the number format of the files."""
        return {"crops": self._crops, "bad": len(self._bad), "stored": self._reader.rows.stored}

    def bad(self, key: Key) -> BadSample | None:
        """Return why an image could not be read."""
        fault = self._bad.get(self._row(key))
        return None if fault is None else BadSample(fault[0], where=fault[1], key=fault[2])

    def read(self, keys: Sequence[Key]) -> Tensor:
        """Return the features of images."""
        return self._reader.read(np.array([self._row(key) for key in keys], dtype=np.int64))


class CropsToCache(Dataset[Loaded]):
    """Crops of a source's images, by row of a cache."""

    def __init__(self, source: Source, *, size: int) -> None:
        """Take the images and S."""
        self._source = source
        self._size = size

    def __getitems__(self, rows: Sequence[int]) -> Loaded:
        """Return the images of these rows, black where an image is bad, and the reasons."""
        images = torch.zeros(len(rows), 3, self._size, self._size, dtype=torch.uint8)
        bad: list[tuple[int, str, str, str]] = []
        for number, row in enumerate(rows):
            crop, index = divmod(row, len(self._source))
            try:
                images[number] = self._source.image(index, crop)
            except BadSample as fault:
                bad.append((row, fault.reason, fault.where, fault.key))
        return images, bad


def load_crops(spans: list[range], *, source: Source, size: int, workers: int) -> Iterator[Loaded]:
    """Yield the images of each range of rows, read by loading processes."""
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": as_read, "worker_init_fn": leave_group}
    yield from DataLoader(CropsToCache(source, size=size), batch_sampler=spans, **options)  # type: ignore[arg-type]


def as_read(loaded: Loaded) -> Loaded:
    """Return the images unchanged: the data set has collated them."""
    return loaded


def drawn_captions(source: Source, *, epochs: int) -> list[str]:
    """Return the different captions of all pairs in the first epochs, in order of first use."""
    texts: dict[str, None] = {}
    for epoch in range(epochs):
        for index in range(len(source)):
            try:
                texts.setdefault(source.caption(index, epoch))
            except BadSample:
                continue
    return list(texts)
