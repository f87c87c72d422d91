"""ImageTextDataModule: streams image-text pairs to training, resumable at any step.  B batch, S
image side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gestalt.data_modules.loading import ImageTextBatch, TrainingData, validity
from gestalt.data_modules.order import check_order
from gestalt.data_modules.pairs import Key, Source
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.validation import ImageSetDataModule, ValidationLoader
from gestalt.support.arguments import check_type

CaptionReader = Callable[[list[str]], dict[str, Tensor]]
"""Maps the captions of a batch, empty for bad pairs, to further fields of the batch."""


class FeatureReader(Protocol):
    """Reads the features of images in place of pixels.

    Attributes:
        side: side of the images in pixels.
    """

    side: int

    def about(self) -> dict[str, Any]:
        """Return facts for the run's result."""
        ...

    def bad(self, key: Key) -> BadSample | None:
        """Return why an image cannot be read; None if it can."""
        ...

    def read(self, keys: Sequence[Key]) -> Tensor:
        """Return the features of images, (B, ...); zeros of those that cannot be read."""
        ...


@dataclass
class ImageTextDataset(Dataset[ImageTextBatch]):
    """Batches of a source's pairs by (epoch, index), so that workers need no state.

    Attributes:
        source: the pairs.
        size: S.
        read_captions: reads captions, for example tokenises them, and adds its fields to each
            batch; None for none.
        features: reads the features of images in place of pixels; None for pixels.
    """

    source: Source
    size: int
    read_captions: CaptionReader | None = None
    features: FeatureReader | None = None

    def __getitem__(self, keys: Sequence[Key]) -> ImageTextBatch:
        """Return a batch of the pairs as drawn in those epochs; each image is written once, into
        the batch.

        A bad pair has a black image, an empty text and its reason.

        Raises:
            ValueError: the source gives an image that is not (3, S, S) uint8.
        """
        images: dict[str, Any]
        if self.features is None:
            pixels, texts = self._read_pairs(keys)
            images = {"image": pixels}
        else:
            texts = [self._read_text(key, self.features) for key in keys]
            images = {"features": self.features.read(keys), "side": self.features.side}
        reasons = [text if isinstance(text, BadSample) else None for text in texts]
        captions = ["" if isinstance(text, BadSample) else str(text) for text in texts]
        batch: Any = {
            **images,
            "text": captions,
            "sample_id": torch.tensor([index for _, index in keys]),
            "epoch": torch.tensor([epoch for epoch, _ in keys]),
            "valid_count": reasons.count(None),
            "column": [getattr(text, "column", "") for text in texts],
            **validity(reasons),
        }
        if self.read_captions is not None:
            batch |= self.read_captions(captions)
        return batch

    def _read_pairs(self, keys: Sequence[Key]) -> tuple[Tensor, list[str | BadSample]]:
        """Read images, (B, 3, S, S), and captions; a black image and the reason for a bad pair."""
        texts: list[str | BadSample] = []
        shape = len(keys), self.size, self.size, 3  # decoders write in this order
        pixels = torch.empty(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
        for key, pair, row in zip(keys, self.source.pairs(keys), pixels, strict=True):
            if isinstance(pair, BadSample):
                row.zero_()
                texts.append(pair)
                continue
            image, text = pair
            texts.append(text)
            if image.shape != row.shape or image.dtype != torch.uint8:
                raise ValueError(
                    f"pair {key} of {type(self.source).__name__} is {image.dtype} "
                    f"{tuple(image.shape)}; a source gives torch.uint8 {tuple(row.shape)}"
                )
            row.copy_(image)
        return pixels, texts

    def _read_text(self, key: Key, features: FeatureReader) -> str | BadSample:
        """Read the caption of an image whose features are read, or the reason for a bad pair."""
        epoch, index = key
        try:
            return features.bad(key) or self.source.caption(index, epoch)
        except BadSample as bad:
            return bad


def source_notes(facts: dict[str, Any]) -> list[str]:
    """Return a sentence on what ``data.limit`` leaves out, on each table of captions, and on each
    kind of shards that are not read, or not read whole, from the ``about`` of a source or a
    mixture.
    """
    notes = []
    if left_out := facts.get("left_out_by_limit"):
        notes.append(f"data.limit leaves out {left_out:,} more")
    for part in facts.get("mixture", [facts]):
        if table := part.get("captions"):
            share = 100 * table["with_row"] / table["pairs"]
            counts = f"{table['with_row']:,} of {table['pairs']:,} pairs ({share:.1f} %)"
            notes.append(f"{counts} have a row of {table['root']}")
            if broken := table["broken_rows"]:
                why = "have another number of fields than the header and are not used"
                notes.append(f"{broken:,} of its rows {why}")
        for key, fault in part.items():
            if key.endswith("_shards"):
                words = key.removesuffix("_shards").replace("unread", "named like these but unread")
                notes.append(f"{fault['count']:,} shards {words}, the first {fault['first']}")
    return notes


class ImageTextDataModule(TrainingData):
    """Training pairs of a source, and image sets for validation.

    Example:
        >>> from gestalt.data_modules.sources import open_source
        >>> source = open_source("scenes", size=64, limit=100)
        >>> data = gestalt.ImageTextDataModule(source, size=64, batch_size=10)
        >>> next(iter(data.train_dataloader()))["image"].shape
        torch.Size([10, 3, 64, 64])

    Attributes:
        pairs: the data set, whose readers the loading processes run.
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        validation: ImageSetDataModule | None = None,
        **loading: Any,
    ) -> None:
        """Take the image side S in pixels and the validation sets, if any; the other arguments are
        those of ``TrainingData``.
        """
        check_type("size", size, SupportsIndex, "a whole number")
        self.pairs = ImageTextDataset(source, size=size)
        super().__init__(source, self.pairs, **loading)
        self._validation = validation

    def about(self) -> dict[str, Any]:
        """Return facts for the run's result: digest, numbers of samples and shards, samples left
        over by an epoch, the source's facts.
        """
        features = {} if self.pairs.features is None else {"features": self.pairs.features.about()}
        return {
            "digest": self.source.digest(),
            "samples": len(self.source),
            "shards": len(self.source.blocks()),
            "left_over": len(self.source) % self.batch_size,
            **self.source.about(),
            **features,
        }

    def summary(self) -> str:
        """Return the same facts as one line of text."""
        facts = self.about()
        counted = f"{facts['shards']:,} shard{'s' if facts['shards'] != 1 else ''}"
        parts = [f"data: {facts['samples']:,} pairs in {counted}, digest {facts['digest']}"]
        if facts["left_over"]:
            parts.append(f"{facts['left_over']} pairs left over by an epoch begin the next")
        parts += source_notes(facts)
        if "features" in facts:
            parts.append(f"cached features in {facts['features']['stored']}")
        if self.source.in_sequence:
            parts.append(
                "read in sequence, not shuffled: after a resume each worker reads from the epoch's "
                "start to the run's position"
            )
        return "; ".join(parts)

    def val_dataloader(self) -> list[ValidationLoader]:
        """Return one loader for each validation set; an empty list without validation, which needs
        ``limit_val_batches=0``.
        """
        check_order(self.trainer)
        if self._validation is None:
            return []
        self._validation.trainer = self.trainer
        return self._validation.val_dataloader()
