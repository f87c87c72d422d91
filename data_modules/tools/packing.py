"""Pack a source into tars.

Tars are written by webdataset's writer, so that other readers of that format can read them.  A
sample is the unchanged image file, ``.json`` with its captions and its key in the source, and
``.txt`` if it has exactly one caption.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from webdataset import ShardWriter

from gestalt.data_modules.corpora.captions import ANY_CAPTION, listed_texts, usable_texts
from gestalt.data_modules.pairs import Source, StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.formats import FORMATS
from gestalt.data_modules.pixels.photographs import decoding, open_checked
from gestalt.data_modules.tools.inspection import drawn, progress
from gestalt.support.files import Fields, check_free, partial_folder

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
                    parts = _parts(source.read(index) or drawn(source, index))
                    writer.write({"__key__": f"{index:09d}", **parts})
                    counts["samples"] += 1
                except BadSample as bad:
                    counts[bad.reason] += 1
        os.rename(partial, folder)
    return dict(counts)


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
