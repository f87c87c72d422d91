"""Pack a source into tars with webdataset's writer, so that other readers of that format can read
them.

A sample is the unchanged image file, ``.json`` with its captions and its key in the source, and
``.txt`` if it has exactly one caption.
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

from gestalt.data_modules.corpora.bad_samples import BadSample, Unusable
from gestalt.data_modules.corpora.captions import ANY_CAPTION, listed_texts, usable_texts
from gestalt.data_modules.pixels.formats import FORMATS
from gestalt.data_modules.pixels.photographs import decoding, open_checked
from gestalt.data_modules.sources import Source, StoredPair
from gestalt.data_modules.tools.inspection import progress
from gestalt.support.files import partial_beside

NAME = "pairs-%06d.tar"
SUFFIXES = {form: form.lower() for form in FORMATS} | {
    "JPEG": "jpg",
    "TIFF": "tif",
    "JPEG2000": "jp2",
}
"""Format of an image file -> its usual ending."""


def pack(source: Source, folder: Path, *, shards: int) -> dict[str, int]:
    """Write a source's samples, in order, into a new folder.

    The folder appears when it is complete, and the same source gives the same bytes.  Image files
    are copied; a source without files, such as scenes, is drawn as in the first epoch and written
    as PNG.

    Args:
        source: the samples.
        folder: folder to make.
        shards: number of tars, which share the samples as equally as possible.

    Returns:
        The number of samples written; for each reason, the number of those that cannot be read.

    Raises:
        ValueError: the folder exists or cannot be made, or there are fewer samples than shards.
    """
    if not 1 <= shards <= len(source):
        raise ValueError(
            f"--shards {shards}: the source has {len(source)} samples; choose 1 to {len(source)}"
        )
    if folder.exists():
        raise ValueError(f"--to {folder}: exists already; choose another folder")
    partial = partial_beside(folder)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"--to {folder}: cannot be made: {error.strerror}") from error
    counts: Counter[str] = Counter(samples=0)
    starts = {len(source) * shard // shards for shard in range(1, shards)}
    try:
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
    except BaseException as error:
        shutil.rmtree(partial)
        # the error of a full disk names no file
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(folder)
        raise
    return dict(counts)


def _drawn(source: Source, index: int) -> StoredPair:
    """Return a sample of a source without files, drawn as PNG."""
    image, caption = source.pair(index, 0)
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
    return StoredPair(type(source).__name__, str(index), file.getvalue(), caption)


def _parts(stored: StoredPair) -> dict[str, Any]:
    """Return the files of a sample by ending.  An unusable caption is kept in ``.txt`` if there is
    no other.
    """
    texts, usable = listed_texts(stored.captions), usable_texts(stored.captions, ANY_CAPTION)
    fields: dict[str, Any] = {"key": stored.key}
    if usable:
        fields["caption"] = usable[0] if len(usable) == 1 else usable
    parts: dict[str, Any] = {
        suffix_of(stored.image): stored.image,
        "json": json.dumps(fields, ensure_ascii=False, sort_keys=True),
    }
    alone = usable or texts[:1]
    if len(alone) == 1 and isinstance(alone[0], str | bytes):
        parts["txt"] = alone[0]
    return parts


def suffix_of(content: bytes) -> str:
    """Return the usual ending of an image file, without dot; ``jpg`` for unknown content, so that
    readers find and report it.
    """
    try:
        with decoding():
            return SUFFIXES.get(open_checked(content).format or "", "jpg")
    except Unusable:
        return "jpg"
