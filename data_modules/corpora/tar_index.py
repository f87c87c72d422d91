"""The index of a tar: where each sample's image and texts begin, made once, so that any sample is read without those before it.

A tar is as img2dataset and webdataset write it: the members of a sample share a key, which is the path up to the first dot of its last
part.  Source of that rule: webdataset/webdataset, src/webdataset/tariterators.py, base_plus_ext of version 1.0.2.  Members of one key
need not be neighbours here.

An index file is one block of JSON (``HEADER`` bytes), then the records (``RECORD``), then the end of each key and the keys.  It lies beside
the tar as ``<name>.index``, or in the cache where that folder cannot be written.  It is mapped into memory, never read whole.
"""

import hashlib
import json
import os
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.batches import GOOD
from data_modules.corpora.bad_samples import REASONS
from data_modules.corpora.shards import Shard, filesystem, is_remote
from gestalt.support.files import replacing

FORMAT = 1
HEADER = 4096
BLOCK = 512
"""Bytes that a tar counts in: content always begins at a multiple."""

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jp2", "avif")
PARTS = {**dict.fromkeys(IMAGES, "image"), "txt": "text", "json": "json"}
"""What a member is, by what follows the first dot of its name; others are passed over."""

RECORD = np.dtype(
    [
        *(("image", "<u4"), ("image_size", "<u4"), ("text", "<u4"), ("text_size", "<u4"), ("json", "<u4"), ("json_size", "<u4")),
        ("reason", "i1"),
    ]
)
"""Of one sample: first block and size in bytes of each part, block 0 for a part that it lacks; why it is bad, or ``GOOD``."""

_MEMBER = re.compile(r"^((?:.*/)?[^/.]+)\.([^/]*)$")


@dataclass(frozen=True)
class IndexHeader:
    """What is known of a tar without its records.

    Attributes:
        size: of the tar, bytes.
        stamp: of the tar, as ``Shard.stamp``.
        samples: how many.
        digest: over keys, sizes and places of all samples.
        truncated: the tar does not end as tars do.
        format: of the file.
    """

    size: int
    stamp: str
    samples: int
    digest: str
    truncated: bool
    format: int = FORMAT


@dataclass
class _Scan:
    """Samples found so far."""

    keys: list[str] = field(default_factory=list)
    rows: list[dict[str, int]] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)  # key to its row, the latest of duplicates

    def add(self, name: str, *, block: int, size: int, reason: str | None) -> None:
        """Note a member; ``reason`` says what is bad of it."""
        matched = _MEMBER.match(name)
        part = PARTS.get(matched[2].lower()) if matched else None
        if matched is None or part is None:
            return
        key = matched[1]
        row = self.newest.get(key)
        if row is None or part in self.rows[row]:
            row = self._begin(key, reason=None if row is None else "duplicate_key")
        self.rows[row] |= {part: block, f"{part}_size": size}
        if reason is not None and self.rows[row]["reason"] == GOOD:
            self.rows[row]["reason"] = REASONS.index(reason)

    def _begin(self, key: str, *, reason: str | None) -> int:
        self.newest[key] = len(self.rows)
        self.keys.append(key)
        self.rows.append({"reason": GOOD if reason is None else REASONS.index(reason)})
        return self.newest[key]

    def records(self) -> np.ndarray[Any, Any]:
        """All rows; a sample without an image is bad."""
        records = np.zeros(len(self.rows), dtype=RECORD)
        for name in RECORD.names or ():
            records[name] = [row.get(name, 0) for row in self.rows]
        records["reason"][(records["image"] == 0) & (records["reason"] == GOOD)] = REASONS.index("missing_image")
        return records


def index_tar(shard: Shard, *, cache: Path) -> Path:
    """Make a tar's index unless it is there; returns its file.

    Raises:
        ValueError: not a tar, or no place to write to.
    """
    for path in index_places(shard, cache=cache):
        if read_header(path, shard) is not None:
            return path
    scan, truncated = scan_tar(shard)
    content = _encode(scan, shard, truncated=truncated)
    *beside, cached = index_places(shard, cache=cache)
    for path in beside:
        try:
            return _written(path, content)
        except OSError:  # a folder that cannot be written, or a full one: the cache is for those
            continue
    try:
        return _written(cached, content)
    except OSError as error:
        raise ValueError(
            f"data.cache={cache}: the index of {shard.url} can be written neither there nor beside it: {error.strerror}"
        ) from error


def index_places(shard: Shard, *, cache: Path) -> list[Path]:
    """Where a tar's index may be, beside it first; of a remote one only the cache."""
    cached = cache / "indices" / hashlib.sha256(_whole(shard.url).encode()).hexdigest()[:16] / f"{shard.name}.index"
    return [cached] if is_remote(shard.url) else [Path(f"{shard.url}.index"), cached]


def _whole(url: str) -> str:
    """An address that means the same in every folder."""
    return url if is_remote(url) else os.path.abspath(url)


def read_header(path: Path, shard: Shard) -> IndexHeader | None:
    """The header of an index; None where there is none, or one of another tar, another state of it, or another format."""
    try:
        with path.open("rb") as file:
            found = IndexHeader(**json.loads(file.read(HEADER)))
    except (OSError, ValueError, TypeError):
        return None
    return found if (found.format, found.size, found.stamp) == (FORMAT, shard.size, shard.stamp) else None


class TarIndex:
    """A tar's index, mapped into memory."""

    def __init__(self, path: Path, *, samples: int) -> None:
        """Map the file."""
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        ends = HEADER + samples * RECORD.itemsize
        self.records = self._bytes[HEADER:ends].view(RECORD)
        self._key_ends = self._bytes[ends : ends + 4 * samples].view("<u4")
        self._keys = self._bytes[ends + 4 * samples :]

    def key(self, row: int) -> str:
        """The key of a sample."""
        start = int(self._key_ends[row - 1]) if row else 0
        return self._keys[start : int(self._key_ends[row])].tobytes().decode("utf-8", "backslashreplace")


def scan_tar(shard: Shard) -> tuple[_Scan, bool]:
    """Walk over the members; returns the samples, and whether the tar is cut short.

    Raises:
        ValueError: not a tar.
    """
    scan, truncated = _Scan(), False
    with _opened(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                try:
                    while (member := tar.next()) is not None:
                        tar.members = []  # type: ignore[attr-defined]  # they would pile up
                        scan.add(member.name, block=member.offset_data // BLOCK, size=_size(member), reason=_objection(member, shard))
                except tarfile.TarError:
                    truncated = True
                end = tar.offset
        except tarfile.ReadError as error:
            if shard.size == 0:
                return scan, True
            raise ValueError(f"{shard.url}: not a tar: {error}") from error
        file.seek(end)
        tail = file.read(BLOCK)
    return scan, truncated or len(tail) < BLOCK or any(tail)  # a tar ends with blocks of zeros


def _size(member: tarfile.TarInfo) -> int:
    return min(member.size, 2**32 - 1)  # what is larger is refused by its reason


def _objection(member: tarfile.TarInfo, shard: Shard) -> str | None:
    """Why a member is not to be read."""
    if member.isdir():
        return None
    if not member.isfile() or member.name.startswith("/") or ".." in member.name.split("/"):
        return "unsafe_member"
    if member.offset_data + member.size > shard.size:
        return "truncated_shard"
    return "too_large" if member.size >= 2**32 else None


def _opened(shard: Shard) -> Any:
    if not is_remote(shard.url):
        return open(shard.url, "rb")
    system, path = filesystem(shard.url)
    return system.open(path, "rb")


def _encode(scan: _Scan, shard: Shard, *, truncated: bool) -> bytes:
    keys = [key.encode("utf-8", "surrogateescape") for key in scan.keys]
    ends = np.cumsum([len(key) for key in keys], dtype=np.int64).astype("<u4")
    body = scan.records().tobytes() + ends.tobytes() + b"".join(keys)
    digest = hashlib.sha256(body).hexdigest()[:32]
    header = IndexHeader(shard.size, shard.stamp, len(keys), digest, truncated)
    return json.dumps(header.__dict__).encode().ljust(HEADER - 1) + b"\n" + body


def _written(path: Path, content: bytes) -> Path:
    """Write beside and rename, so that an index is whole whoever writes it at the same time."""
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path
