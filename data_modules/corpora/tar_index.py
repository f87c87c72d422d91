"""Indices of tars: where each sample begins, so that any sample can be read without those before it.  Made once, then mapped into memory.

An index file is one block of JSON (``HEADER`` bytes), then the records (``tar_scan.RECORD``), then the end of each key and the keys.  It
lies beside the tar as ``<name>.index``, or in the cache if that folder is read-only.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_modules.corpora.remote import is_remote
from data_modules.corpora.shards import Shard
from data_modules.corpora.tar_scan import RECORD, TarScan, scan_tar
from data_modules.digest import short_digest
from gestalt.support.files import replacing

FORMAT = 2  # format 1 had neither ``captions`` nor ``changed``
HEADER = 4096


@dataclass(frozen=True)
class IndexHeader:
    """Facts about a tar, without its records.

    Attributes:
        size: size of the tar, bytes.
        stamp: stamp of the tar, as ``Shard.stamp``.
        samples: number of samples.
        digest: digest over keys, sizes and locations of all samples.
        captions: digest over the bytes of all ``.txt`` and ``.json``.
        truncated: True if the tar lacks its closing blocks.
        changed: as ``Shard.changed`` of the tar.
        format: format of the index file.
    """

    size: int
    stamp: str
    samples: int
    digest: str
    captions: str
    truncated: bool
    changed: str
    format: int = FORMAT


class Record(NamedTuple):
    """One sample, the fields of ``tar_scan.RECORD`` in their order."""

    image: int
    image_size: int
    text: int
    text_size: int
    json: int
    json_size: int
    reason: int


class TarIndex:
    """The index of a tar, mapped into memory."""

    def __init__(self, path: Path, *, samples: int) -> None:
        mapped = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))  # a plain array: a memmap takes longer for each element
        ends = HEADER + samples * RECORD.itemsize
        self._records = mapped[HEADER:ends].view(RECORD)
        self._key_ends = mapped[ends : ends + 4 * samples].view("<u4")
        self._keys = mapped[ends + 4 * samples :]

    def record(self, row: int) -> Record:
        """Return a sample's entry."""
        return Record(*self._records[row].item())

    def key(self, row: int) -> str:
        """Return the key of a sample."""
        start = int(self._key_ends[row - 1]) if row else 0
        return self._keys[start : int(self._key_ends[row])].tobytes().decode("utf-8", "backslashreplace")


def index_places(shard: Shard, *, cache: Path) -> list[Path]:
    """List the possible paths of a tar's index: beside a local tar first, then in the cache."""
    address = shard.url if is_remote(shard.url) else os.path.abspath(shard.url)
    cached = cache / "indices" / short_digest(address) / f"{shard.name}.index"
    return [cached] if is_remote(shard.url) else [Path(f"{shard.url}.index"), cached]


def find_index(shard: Shard, *, cache: Path) -> tuple[Path, IndexHeader] | None:
    """Return path and header of a tar's index; None if there is none for the tar's present state."""
    for path in index_places(shard, cache=cache):
        try:
            if not path.is_file():  # a pipe would wait for ever
                continue
            with path.open("rb") as file:
                header = IndexHeader(**json.loads(file.read(HEADER)))
        except (OSError, ValueError, TypeError, RecursionError):
            continue
        if (header.format, header.size, header.stamp, header.changed) == (FORMAT, shard.size, shard.stamp, shard.changed):
            return path, header
    return None


def index_tar(shard: Shard, *, cache: Path) -> Path:
    """Make a tar's index if it is missing.  Returns its path.

    Raises:
        ValueError: not a tar, or no place to write to.
    """
    existing = find_index(shard, cache=cache)
    if existing is not None:
        return existing[0]
    content = _encode(scan_tar(shard), shard)
    *beside, cached = index_places(shard, cache=cache)
    for path in beside:
        try:
            return _write(path, content)
        except OSError:  # a read-only or full disk: write to the cache
            continue
    try:
        return _write(cached, content)
    except OSError as error:
        raise ValueError(f"data.cache={cache}: cannot write the index of {shard.url} there or beside it: {error.strerror}") from error


def _encode(scan: TarScan, shard: Shard) -> bytes:
    keys = [key.encode("utf-8", "surrogateescape") for key in scan.keys]
    ends = np.cumsum([len(key) for key in keys], dtype=np.int64).astype("<u4")
    body = scan.records().tobytes() + ends.tobytes() + b"".join(keys)
    digest = hashlib.sha256(body).hexdigest()[:32]
    header = IndexHeader(shard.size, shard.stamp, len(keys), digest, scan.captions.hexdigest()[:32], scan.truncated, shard.changed)
    return json.dumps(header.__dict__).encode().ljust(HEADER - 1) + b"\n" + body


def _write(path: Path, content: bytes) -> Path:
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path
