"""Packing: any source into tars, by webdataset's own writer, so that what is written here is what others read.

A sample is the image's file as it is, ``.json`` with its captions and where it came from, and ``.txt`` where it has one caption only.
"""

import json
import os
import shutil
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from webdataset import ShardWriter

from data_modules.corpora.bad_samples import BadSample
from data_modules.corpora.captions import clean_caption, listed_texts
from data_modules.corpora.stored_pairs import Stored
from data_modules.pixels.photographs import suffix_of
from data_modules.sources import Source
from data_modules.tools.inspection import Progress

NAME = "pairs-%06d.tar"


def pack(source: Source, folder: Path, *, shards: int, progress: Progress) -> dict[str, int]:
    """Write a source's samples, in their order, into a new folder.

    The folder appears once it is complete; the same source gives the same bytes. Where a source has files their bytes are kept; what has
    none, such as scenes, is drawn as in the first epoch and written as PNG.

    Args:
        source: any.
        folder: to be made.
        shards: tars, of as equal numbers of samples as can be.
        progress: shows how far it is.

    Returns:
        The number of samples, bytes that cannot be had left out; of these, by reason.

    Raises:
        ValueError: the folder is there already or cannot be made, or fewer samples than shards.
    """
    if not 1 <= shards <= len(source):
        raise ValueError(f"--shards {shards}: the source has {len(source)} samples; choose 1 to {len(source)}")
    if folder.exists():
        raise ValueError(f"--to {folder}: exists already; name another folder")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"--to {folder}: cannot be made: {error.strerror}") from error
    try:
        counts = _write(source, partial, shards=shards, progress=progress)
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return counts


def _write(source: Source, folder: Path, *, shards: int, progress: Progress) -> dict[str, int]:
    counts: Counter[str] = Counter(samples=0)
    starts = {len(source) * shard // shards for shard in range(1, shards)}
    with ShardWriter(str(folder / NAME), maxcount=len(source), maxsize=float("inf"), verbose=0, mtime=0) as writer:
        for index in progress(iter(range(len(source))), len(source)):
            if index in starts:
                writer.next_stream()
            try:
                writer.write({"__key__": f"{index:09d}", **_parts(_stored(source, index))})
                counts["samples"] += 1
            except BadSample as bad:
                counts[bad.reason] += 1
    return dict(counts)


def _stored(source: Source, index: int) -> Stored:
    read = getattr(source, "stored", None)
    if read is not None:
        stored: Stored = read(index)
        return stored
    image, caption = source.pair(index, 0)
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return Stored(type(source).__name__, str(index), file.getvalue(), caption)


def _parts(stored: Stored) -> dict[str, Any]:
    """The files of a sample.  Bytes that are no caption stay as they are in ``.txt``, where they are all that there is."""
    texts = listed_texts(stored.captions)
    usable = []
    for text in texts:
        try:
            usable.append(clean_caption(text, where=stored.where, key=stored.key))
        except BadSample:
            continue
    about: dict[str, Any] = {"key": stored.key}
    if usable:
        about["caption"] = usable[0] if len(usable) == 1 else usable
    parts: dict[str, Any] = {suffix_of(stored.image): stored.image, "json": json.dumps(about, ensure_ascii=False, sort_keys=True)}
    if len(usable) == 1:
        parts["txt"] = usable[0]
    elif not usable and texts and isinstance(texts[0], str | bytes):
        parts["txt"] = texts[0]
    return parts
