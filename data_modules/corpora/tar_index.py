"""Indices of tars: where each sample begins, so that any sample can be read without those before
it.  An index is made once, then mapped into memory.

An index file is one block of JSON (``HEADER`` bytes), then the records (``HASHED``), then the end
of each key and the keys.  It lies in the cache, named by the address and state of the tar, whose
own folder may be read-only.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from gestalt.data_modules.corpora.shards import Shard
from gestalt.data_modules.corpora.tar_files import VALUES, address_of, scan_tar
from gestalt.data_modules.pixels.bad_samples import GOOD, REASONS
from gestalt.support.files import short_digest, write_whole

FORMAT = 5
HEADER = 4096

PLACES = ("image", "image_size", "text", "text_size", "json", "json_size")

RECORD = np.dtype([*((name, "<u4") for name in PLACES), ("reason", "i1")])
"""One sample: first block and size in bytes of each part, block 0 for a missing part; index into
``REASONS`` if it is bad, or ``GOOD``.
"""

HASHED = np.dtype([*RECORD.descr, *((name, "<u8") for name in VALUES)])
"""One sample in the index, with a hash of each of the ``VALUES``, 0 for a missing one."""

Header = dict[str, Any]
"""Facts about a tar, without its records: number of ``samples``; ``digest`` over keys, sizes and
locations of all samples; digest over the bytes of all ``captions``, the ``.txt`` and ``.json``;
``truncated`` if the tar lacks its closing blocks.
"""

CONTENT = {"samples", "digest", "captions", "truncated"}
"""Keys of a header."""


class TarIndex:
    """The index of a tar, mapped into memory.

    Attributes:
        records: (samples,) array of ``HASHED``.
    """

    def __init__(self, path: Path, *, samples: int) -> None:
        # a plain array: a memmap takes longer for each element
        mapped = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        ends = HEADER + samples * HASHED.itemsize
        self.records = mapped[HEADER:ends].view(HASHED)
        self._key_ends = mapped[ends : ends + 4 * samples].view("<u4")
        self._keys = mapped[ends + 4 * samples :]

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        start = self._key_ends[row - 1] if row else 0
        key = self._keys[start : self._key_ends[row]].tobytes()
        return key.decode("utf-8", "backslashreplace")


def index_place(shard: Shard, cache: Path) -> Path:
    """Return the path of a tar's index, which is another for another state of the tar, another tar
    of the same address, such as on the disk of another node, and another format of the index.
    """
    facts = {
        "format": FORMAT,
        "size": shard.size,
        "stamp": shard.stamp,
        "changed": shard.changed,
    }
    state = f"{address_of(shard)}\0{facts}"
    return cache / "indices" / short_digest(state) / f"{shard.name}.index"


def find_index(shard: Shard, cache: Path) -> tuple[Path, Header] | None:
    """Return path and header of a tar's index; None if there is none for the tar's present
    state.
    """
    path = index_place(shard, cache)
    try:
        if not path.is_file():  # a pipe would wait for ever
            return None
        with path.open("rb") as file:
            header: Header = json.loads(file.read(HEADER))
            size = HEADER + header["samples"] * (HASHED.itemsize + 4)
            if header["samples"]:
                file.seek(size - 4)  # the end of the last key
                size += int.from_bytes(file.read(4), "little")
        if path.stat().st_size == size and header.keys() >= CONTENT:
            return path, header
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        pass  # cut short, or not an index: it is made anew
    return None


def index_tar(shard: Shard, cache: Path) -> tuple[Path, Header]:
    """Make a tar's index if it is missing.  Returns its path and header.

    Raises:
        ValueError: not a tar, or a cache that cannot be written to.
    """
    existing = find_index(shard, cache)
    if existing is not None:
        return existing
    samples, captions, truncated = scan_tar(shard)
    keys = [key.encode("utf-8", "surrogateescape") for key, _ in samples]
    ends = np.cumsum([len(key) for key in keys], dtype=np.int64).astype("<u4")
    fields = [tuple(row.get(name, 0) for name in HASHED.names or ()) for _, row in samples]
    records = np.array(fields, dtype=HASHED)
    records["reason"][(records["image"] == 0) & (records["reason"] == GOOD)] = REASONS.index(
        "missing_image"
    )
    rest = ends.tobytes() + b"".join(keys)
    located = records[[*(RECORD.names or ())]].astype(RECORD).tobytes() + rest
    header = {
        "samples": len(keys),
        "digest": hashlib.sha256(located).hexdigest()[:32],
        "captions": captions[:32],
        "truncated": truncated,
    }
    content = json.dumps(header).encode().ljust(HEADER - 1) + b"\n" + records.tobytes() + rest
    path = index_place(shard, cache)
    try:
        write_whole(path, content)
    except OSError as error:
        raise ValueError(
            f"data.cache={cache}: cannot write the index of {shard.url} there: {error.strerror}; "
            "choose another"
        ) from error
    return path, header
