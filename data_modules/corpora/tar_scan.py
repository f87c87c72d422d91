"""Scan a tar once, from its start to its end, for the location of each sample's image and texts.

A tar follows webdataset's convention, as img2dataset writes it: the members of a sample share a key, the path up to the first dot of its
last part.  Source: webdataset/webdataset, src/webdataset/tariterators.py, base_plus_ext of version 1.0.2.  Unlike there, members of one
key need not be adjacent.

Headers are decoded by ``tarfile``, one at a time.  Its own iteration recurses for each extension header and reads the whole of it, so a
small tar could exhaust stack or memory.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_modules.batches import GOOD
from data_modules.corpora.bad_samples import REASONS
from data_modules.corpora.shards import Shard, open_binary
from data_modules.corpora.tar_files import BLOCK, decode_header

LONGEST_EXTENSION = 2**20
"""Most bytes of an extension header: it has a path or attributes, not content."""

LONGEST_TEXT = 16 * 2**20
"""Most bytes of a ``.txt`` or ``.json``; a caption has 10,000 characters at most."""

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jp2", "avif")
PARTS = {**dict.fromkeys(IMAGES, "image"), "txt": "text", "json": "json"}
"""Part of a sample by the ending after the first dot of a member's name; other endings are skipped."""

RECORD = np.dtype(
    [
        *(("image", "<u4"), ("image_size", "<u4"), ("text", "<u4"), ("text_size", "<u4"), ("json", "<u4"), ("json_size", "<u4")),
        ("reason", "i1"),
    ]
)
"""One sample: first block and size in bytes of each part, block 0 for a missing part; index into ``REASONS`` if it is bad, or ``GOOD``."""

_MEMBER = re.compile(r"^((?:.*/)?[^/.]+)\.([^/]*)$")


@dataclass
class TarScan:
    """Samples of a tar.

    Attributes:
        keys: their keys, in order of first member.
        truncated: True if the tar lacks its closing blocks.
        captions: hash over the bytes of all ``.txt`` and ``.json``, in order.
    """

    keys: list[str] = field(default_factory=list)
    truncated: bool = False
    captions: Any = field(default_factory=hashlib.sha256)
    _rows: list[dict[str, int]] = field(default_factory=list)
    _latest: dict[str, int] = field(default_factory=dict)  # key to its row, the latest of duplicates

    def add(self, name: str, *, block: int, size: int, reason: str | None) -> str | None:
        """Add a member to its sample; ``reason`` is set if it must not be read.  Returns its part, None if it is skipped."""
        match = _MEMBER.match(name)
        part = PARTS.get(match[2].lower()) if match else None
        if match is None or part is None:
            return None
        key = match[1]
        row = self._latest.get(key)
        if row is None or part in self._rows[row]:
            self._rows.append({"reason": GOOD if row is None else REASONS.index("duplicate_key")})
            self.keys.append(key)
            row = self._latest[key] = len(self._rows) - 1
        self._rows[row] |= {part: block, f"{part}_size": size}
        if reason is not None and self._rows[row]["reason"] == GOOD:
            self._rows[row]["reason"] = REASONS.index(reason)
        return part

    def records(self) -> np.ndarray[Any, Any]:
        """Return one ``RECORD`` a sample; a sample without an image is bad."""
        records = np.zeros(len(self._rows), dtype=RECORD)
        for name in RECORD.names or ():
            records[name] = [row.get(name, 0) for row in self._rows]
        records["reason"][(records["image"] == 0) & (records["reason"] == GOOD)] = REASONS.index("missing_image")
        return records


@dataclass
class Member:
    """A file, folder or link of a tar; its content begins at ``start`` and takes ``size`` bytes."""

    info: tarfile.TarInfo
    name: str
    start: int
    size: int
    sparse: bool

    @property
    def end(self) -> int:
        """Offset of the next header; links, folders and devices have no content."""
        holds = self.info.isreg() or self.info.type not in tarfile.SUPPORTED_TYPES
        return self.start + (_padded(self.size) if holds else 0)


def scan_tar(shard: Shard) -> TarScan:
    """List the samples of a tar.

    Raises:
        ValueError: not a tar, a header that no tar needs (names its offset), or a remote tar that cannot be read.
    """
    scan = TarScan()
    try:
        with open_binary(shard) as file:
            scan.truncated = not _add_members(file, scan, shard=shard)
    except OSError as error:
        raise ValueError(f"{shard.url}: cannot be read: {error}") from error
    return scan


def _add_members(file: Any, scan: TarScan, *, shard: Shard) -> bool:
    """Add all members to the scan.  Returns False if the tar ends early or a header is damaged."""
    headers = _Headers(file, shard)
    for member in headers:
        size = min(member.size, 2**32 - 1)  # a larger one is refused
        reason = _refusal(member, shard)
        part = scan.add(member.name, block=member.start // BLOCK, size=size, reason=reason)
        if part in ("text", "json") and reason is None and size <= LONGEST_TEXT:
            scan.captions.update(file.read(size))
        if member.end > shard.size:
            return False
        headers.seek(member.end)
    return headers.closed


class _Headers(Iterator[Member]):
    """Members of a tar from the file's start on; the caller reads the content and calls ``seek`` with the member's end.

    Attributes:
        closed: True once the block of zeros that ends a tar is reached.
    """

    def __init__(self, file: Any, shard: Shard) -> None:
        self._file = file
        self._shard = shard
        self._everywhere: dict[str, str] = {}  # fields of global headers
        self._position = 0
        self.closed = False

    def seek(self, position: int) -> None:
        """Move to the next header."""
        self._file.seek(position)
        self._position = position

    def __next__(self) -> Member:
        said, sparse = dict(self._everywhere), False
        while True:
            offset = self._position
            header = self._header(offset)
            if header is None:
                raise StopIteration
            info, block = header
            self._check(info.size, offset=offset, extension=info.type in _EXTENSIONS)
            if info.type not in _EXTENSIONS:
                break
            content = self._read(_padded(info.size))[: info.size]
            if info.type == tarfile.GNUTYPE_LONGNAME:
                said["path"] = content.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            elif info.type != tarfile.GNUTYPE_LONGLINK:
                fields, mapped = _pax_fields(content)
                said |= fields
                sparse |= mapped
                self._everywhere |= fields if info.type == tarfile.XGLTYPE else {}
        size = info.size if "size" not in said else int(said["size"]) if re.fullmatch(r"\d{1,19}", said["size"]) else -1
        self._check(size, offset=offset, extension=False)
        sparse |= info.type == tarfile.GNUTYPE_SPARSE
        if info.type == tarfile.GNUTYPE_SPARSE:
            self._skip_map(more=bool(block[482]))
        name = said.get("path", info.name)
        return Member(info, name.rstrip("/") if info.isdir() else name, self._position, size, sparse)

    def _header(self, offset: int) -> tuple[tarfile.TarInfo, bytes] | None:
        """Decode a header and return its bytes too; None at the end of the tar, or where it is damaged."""
        block = self._read(BLOCK)
        if block == bytes(BLOCK):
            self.closed = True
            return None
        info = decode_header(block, url=self._shard.url, offset=offset)
        return None if info is None else (info, block)

    def _read(self, size: int) -> bytes:
        content: bytes = self._file.read(size)
        self._position += size
        return content

    def _check(self, size: int, *, offset: int, extension: bool) -> None:
        if size < 0 or (extension and size > LONGEST_EXTENSION):
            limit = f"an extension header has {LONGEST_EXTENSION:,} bytes at most" if extension else "a size is at least 0"
            raise ValueError(f"{self._shard.url}, header at byte {offset:,}: size {size:,}, but {limit}; the tar is damaged, make it again")

    def _skip_map(self, *, more: bool) -> None:
        """Skip the blocks after the header of an old GNU sparse member that say where its content lies."""
        while more:
            block = self._read(BLOCK)
            more = len(block) == BLOCK and bool(block[504])


_EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_USED = {b"path": "path", b"size": "size"}


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _pax_fields(content: bytes) -> tuple[dict[str, str], bool]:
    """Return path and size of a pax header, and True if it maps a sparse file.  A record is ``LENGTH KEY=VALUE`` and a line end."""
    fields, sparse, position = {}, False, 0
    while position < len(content):
        number = content[position : position + 20].partition(b" ")[0]
        length = int(number) if number.isdigit() else 0
        if length <= len(number) + 2:
            break
        key, _, value = content[position + len(number) + 1 : position + length - 1].partition(b"=")
        if key in _USED:
            fields[_USED[key]] = value.decode("utf-8", "surrogateescape")
        sparse |= key.startswith(b"GNU.sparse.")
        position += length
    return fields, sparse


def _refusal(member: Member, shard: Shard) -> str | None:
    """Return the reason why a member must not be read, or None."""
    if member.info.isdir():
        return None
    if not member.info.isfile() or member.sparse or member.name.startswith("/") or ".." in member.name.split("/"):
        return "unsafe_member"
    if member.start + member.size > shard.size:
        return "truncated_shard"
    return "too_large" if member.size >= 2**32 else None
