"""Inspect every sample of a source, to write its manifest.

Inspection decodes every image whole and reads every caption.  A sample is bad if its image is, or
if none of the captions that training may draw is usable.
"""

from array import array
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm

from gestalt.data_modules.corpora.captions import (
    ANY_CAPTION,
    clean_caption,
    listed_texts,
    usable_texts,
)
from gestalt.data_modules.corpora.manifest import Bad
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.labels.image_set import ImageSet
from gestalt.data_modules.pairs import Source, StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample, bad_sample_at
from gestalt.data_modules.pixels.decoding import shown_size
from gestalt.data_modules.pixels.photographs import (
    as_rgb,
    decoding,
    open_checked,
    pixels_hash,
    to_tensor,
)
from gestalt.support.files import Fields, value_hash

BATCH = 32  # number of samples that a process examines before it reports them

progress = partial(tqdm, unit=" samples", disable=None, mininterval=0.5)
"""Wraps an iterable to show a progress bar on a terminal."""


class Finding(NamedTuple):
    """Result of the examination of one sample.

    Attributes:
        bad: reason, where and key; None for a good sample.
        image: width, height, bytes and hash; empty for a bad sample.
        captions: number of words and hash of each usable caption.
        unusable: number of unusable captions.
        pixels: hash of the image's pixels; 0 if it is not compared with others.
    """

    bad: tuple[str, str, str] | None
    image: tuple[int, ...] = ()
    captions: Sequence[tuple[int, ...]] = ()
    unusable: int = 0
    pixels: int = 0


def examine(source: Source, compared: bool, indices: Sequence[int]) -> list[Finding]:
    """Examine some samples; of a source without files, as they are drawn in the first epoch.

    The pixels are hashed if the images are ``compared`` with those of image sets.
    """
    return [_examine(source, compared, index) for index in indices]


def _examine(source: Source, compared: bool, index: int) -> Finding:
    rule = source.rule if isinstance(source, StoredPairs) else ANY_CAPTION
    try:
        stored = source.read(index) or drawn(source, index)
        texts = listed_texts(stored.captions, rule)
        usable = usable_texts(stored.captions, rule)
        with bad_sample_at(stored.where, stored.key):
            size = shown_size(stored.image)
            pixels = 0
            if compared:  # without the orientation tag, as image sets are read
                with decoding():
                    pixels = pixels_hash(to_tensor(as_rgb(open_checked(stored.image))))
            if not usable:  # raises the reason of the first
                clean_caption(texts[0] if texts else None)
    except BadSample as bad:
        return Finding((bad.reason, bad.where, bad.key))
    image = *size, len(stored.image), value_hash(stored.image)
    captions = [(len(text.split()), value_hash(text)) for text in usable]
    return Finding(None, image, captions, len(texts) - len(usable), pixels)


def inspect(
    source: Source, workers: int, image_sets: Mapping[str, ImageSet]
) -> tuple[list[Bad], Fields]:
    """Examine all samples of a source in order.

    A few numbers are kept of each, so that eleven million samples fit into memory.

    Args:
        source: the samples.
        workers: number of further processes.
        image_sets: sets to compare with, by name.

    Returns:
        The bad samples, and all counts, both for the manifest.  With image sets, one of the counts
        is the number of images of each that the source has with equal pixels.

    Raises:
        ValueError: the source is a mixture, whose indices mean other samples in each epoch.
    """
    if source.orders_itself:
        raise ValueError("a mixture cannot be inspected: inspect each of its sources")
    loader: DataLoader[Any] = DataLoader(
        range(len(source)),  # type: ignore[arg-type]
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=partial(examine, source, bool(image_sets)),
    )
    # before hours of reading, since an image set may have a file that cannot be read
    compared = {name: _pixel_hashes(images, name) for name, images in image_sets.items()}
    sought = set(chain.from_iterable(compared.values()))
    shared: set[int] = set()
    findings = enumerate(progress(chain.from_iterable(loader), total=len(source)))
    images, captions = array("Q"), array("Q")
    bad: list[Bad] = []
    unusable = 0
    for index, finding in findings:
        if finding.bad is not None:
            bad.append((index, *finding.bad))
        images.extend(finding.image)
        captions.extend(chain.from_iterable(finding.captions))
        unusable += finding.unusable
        if finding.pixels in sought:
            shared.add(finding.pixels)
    *sizes, image_hashes = np.array(images, dtype=np.uint64).reshape(-1, 4).T
    words, text_hashes = np.array(captions, dtype=np.uint64).reshape(-1, 2).T
    return bad, {
        "images": {
            name: _spread(values)
            for name, values in zip(("width", "height", "bytes"), sizes, strict=True)
        },
        "captions": {
            "usable": len(words),
            "unusable_beside_usable": unusable,
            "words": _spread(words),
        },
        "duplicates": {
            name: {"repeats": len(hashes) - len(np.unique(hashes))}
            for name, hashes in (("images", image_hashes), ("captions", text_hashes))
        },
        **({"shared_images": _counts(compared, shared)} if image_sets else {}),
    }


def _pixel_hashes(images: ImageSet, name: str) -> list[int]:
    """Return the hash of the pixels of each image of a set."""
    indices = progress(range(len(images)), desc=name)
    return [pixels_hash(images.sample(index)["image"]) for index in indices]


def _counts(compared: Mapping[str, list[int]], shared: set[int]) -> dict[str, Fields]:
    """Return the number of images of each set, and of those among them that are shared."""
    return {
        name: {"images": len(hashes), "shared": sum(value in shared for value in hashes)}
        for name, hashes in compared.items()
    }


def _spread(values: NDArray[np.uint64]) -> dict[str, int]:
    """Return minimum, median and maximum; empty without values."""
    if not len(values):
        return {}
    percentiles = np.percentile(values, [0, 50, 100], method="nearest")
    return dict(zip(("least", "median", "most"), map(int, percentiles), strict=True))


def drawn(source: Source, index: int) -> StoredPair:
    """Return a sample of a source without files, drawn as PNG."""
    image, caption = source.pair(index, 0)
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return StoredPair(type(source).__name__, str(index), file.getvalue(), caption)
