"""Inspect every sample of a source, to write its manifest; pack a source into tars; draw a batch of
training pairs as one picture.  S image side in pixels.

Inspection decodes every image whole and reads every caption.  A sample is bad if its image is, or
if none of the captions that training may draw is usable.

Tars are written by webdataset's writer, so that other readers of that format can read them.  A
sample is the unchanged image file, ``.json`` with its captions and its key in the source, and
``.txt`` if it has exactly one caption.
"""

import json
import os
import textwrap
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm
from webdataset import ShardWriter

from gestalt.data_modules.corpora.captions import (
    ANY_CAPTION,
    clean_caption,
    listed_texts,
    usable_texts,
)
from gestalt.data_modules.corpora.manifest import Bad
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.loading import ImageTextBatch
from gestalt.data_modules.pairs import Source, StoredPair
from gestalt.data_modules.pixels.bad_samples import REASONS, BadSample, bad_sample_at
from gestalt.data_modules.pixels.decoding import shown_size
from gestalt.data_modules.pixels.formats import FORMATS
from gestalt.data_modules.pixels.photographs import decoding, open_checked
from gestalt.support.files import Fields, check_free, partial_folder, value_hash

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
    """

    bad: tuple[str, str, str] | None
    image: tuple[int, ...] = ()
    captions: Sequence[tuple[int, ...]] = ()
    unusable: int = 0


def examine(source: Source, indices: Sequence[int]) -> list[Finding]:
    """Examine some samples; of a source without files, as they are drawn in the first epoch."""
    return [_examine(source, index) for index in indices]


def _examine(source: Source, index: int) -> Finding:
    rule = source.rule if isinstance(source, StoredPairs) else ANY_CAPTION
    try:
        stored = source.read(index) or _drawn(source, index)
        texts = listed_texts(stored.captions, rule)
        usable = usable_texts(stored.captions, rule)
        with bad_sample_at(stored.where, stored.key):
            size = shown_size(stored.image)
            if not usable:  # raises the reason of the first
                clean_caption(texts[0] if texts else None)
    except BadSample as bad:
        return Finding((bad.reason, bad.where, bad.key))
    image = *size, len(stored.image), value_hash(stored.image)
    captions = [(len(text.split()), value_hash(text)) for text in usable]
    return Finding(None, image, captions, len(texts) - len(usable))


def inspect(source: Source, workers: int) -> tuple[list[Bad], Fields]:
    """Examine all samples of a source in order.

    A few numbers are kept of each, so that eleven million samples fit into memory.

    Args:
        source: the samples.
        workers: number of further processes.

    Returns:
        The bad samples, and all counts, both for the manifest.

    Raises:
        ValueError: the source is a mixture, whose indices mean other samples in each epoch.
    """
    if source.orders_itself:
        raise ValueError("a mixture cannot be inspected: inspect each of its sources")
    loader: DataLoader[Any] = DataLoader(
        range(len(source)),  # type: ignore[arg-type]
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=partial(examine, source),
    )
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
    }


def _spread(values: NDArray[np.uint64]) -> dict[str, int]:
    """Return minimum, median and maximum; empty without values."""
    if not len(values):
        return {}
    percentiles = np.percentile(values, [0, 50, 100], method="nearest")
    return dict(zip(("least", "median", "most"), map(int, percentiles), strict=True))


NAME = "pairs-%06d.tar"
SUFFIXES = {form: form.lower() for form in FORMATS} | {
    "JPEG": "jpg",
    "TIFF": "tif",
    "JPEG2000": "jp2",
}
"""Format of an image file -> its usual ending."""


def pack(source: Source, folder: Path, shards: int) -> dict[str, int]:
    """Write a source's samples, in order, into a new folder.

    The folder appears when it is complete, and the same source gives the same bytes.  Image files
    are copied; a source without files, such as scenes, is drawn as in the first epoch and written
    as PNG.

    Args:
        source: the samples.
        folder: folder to make; it may be there and empty.
        shards: number of tars, which share the samples as equally as possible.

    Returns:
        The number of samples written; for each reason, the number of those that cannot be read.

    Raises:
        ValueError: the folder holds something, there are fewer samples than shards, or captions of
            a table, whose columns and weights would be lost.
    """
    if not 1 <= shards <= len(source):
        raise ValueError(
            f"--shards {shards}: the source has {len(source)} samples; choose 1 to {len(source)}"
        )
    check_free(folder, "--to")
    counts: Counter[str] = Counter(samples=0)
    starts = {len(source) * shard // shards for shard in range(1, shards)}
    with partial_folder(folder) as partial:
        with ShardWriter(
            str(partial / NAME), maxcount=len(source), maxsize=float("inf"), verbose=0, mtime=0
        ) as writer:
            for index in progress(range(len(source))):
                if index in starts:
                    writer.next_stream()
                try:
                    parts = _parts(source.read(index) or _drawn(source, index))
                    writer.write({"__key__": f"{index:09d}", **parts})
                    counts["samples"] += 1
                except BadSample as bad:
                    counts[bad.reason] += 1
        os.rename(partial, folder)
    return dict(counts)


def _drawn(source: Source, index: int) -> StoredPair:
    """Return a sample of a source without files, drawn as PNG."""
    image, caption = source.pair(index, 0)
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return StoredPair(type(source).__name__, str(index), file.getvalue(), caption)


def _parts(stored: StoredPair) -> Fields:
    """Return the files of a sample by ending.  An unusable caption is kept in ``.txt`` if there is
    no other; unknown content of an image is called ``jpg``, so that readers find and report it.
    """
    if isinstance(stored.captions, Mapping):
        raise ValueError(
            "data.captions: `data pack` would lose its columns and weights; pack without it, and "
            "name it in training: tars stay as they are"
        )
    try:
        with decoding():
            suffix = SUFFIXES[str(open_checked(stored.image).format)]
    except BadSample:
        suffix = "jpg"
    texts, usable = listed_texts(stored.captions), usable_texts(stored.captions, ANY_CAPTION)
    fields: Fields = {"key": stored.key}
    if usable:
        fields["caption"] = usable[0] if len(usable) == 1 else usable
    parts: Fields = {
        suffix: stored.image,
        "json": json.dumps(fields, ensure_ascii=False, sort_keys=True),
    }
    alone = usable or texts[:1]
    if len(alone) == 1 and isinstance(alone[0], str | bytes):
        parts["txt"] = alone[0]
    return parts


LEAST_CELL, DPI = 160, 100
"""Smallest side of an image on the sheet, and pixels an inch."""

LETTERS, LINES = 30, 4
"""Most letters of a line, and lines, of a caption."""


def contact_sheet(batch: ImageTextBatch, *, title: str, columns: int) -> Figure:
    """Draw each image of a batch, enlarged if it is small, below its caption, or the reason of a
    bad pair.

    Args:
        batch: pairs to draw.
        title: text above the images.
        columns: number of images in a row.
    """
    count = len(batch["text"])
    columns = min(columns, count)
    rows = -(-count // columns)
    cell = max(LEAST_CELL, batch["image"].shape[-1]) / DPI
    figure = Figure(
        figsize=(max(columns * (cell + 0.6), 7), rows * (cell + 1.2) + 1),
        dpi=DPI,
        layout="constrained",
    )
    figure.suptitle(title, fontsize=9, parse_math=False)
    for number in range(count):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.axis("off")
        text, colour = batch["text"][number], "black"
        if batch["valid"][number]:
            axes.imshow(batch["image"][number].permute(1, 2, 0).numpy(), interpolation="nearest")
        else:
            reason = REASONS[int(batch["reason"][number])]
            text, colour = f"{reason}: {batch['place'][number]}", "firebrick"
            axes.plot([0, 1], [0, 1], color=colour)
        lines = textwrap.wrap(text, LETTERS, max_lines=LINES, placeholder=" …")
        origin = f"sample {int(batch['sample_id'][number])}, epoch {int(batch['epoch'][number])}"
        axes.set_title("\n".join([*lines, origin]), fontsize=7, color=colour, parse_math=False)
    return figure
