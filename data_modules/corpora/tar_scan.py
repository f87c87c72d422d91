"""Scan a tar once, from its start to its end, for the location of each sample's image and texts.

A tar follows webdataset's convention, as img2dataset writes it: the members of a sample share a key, the path up to the first dot of its
last part.  Source: webdataset/webdataset, src/webdataset/tariterators.py, base_plus_ext of version 1.0.2.  Unlike there, members of one
key need not be adjacent.
"""

import re
import tarfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_modules.batches import GOOD
from data_modules.corpora.bad_samples import REASONS
from data_modules.corpora.shards import Shard, open_binary

BLOCK = 512
"""Bytes of a tar's unit: content always begins at a multiple."""

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
    """

    keys: list[str] = field(default_factory=list)
    truncated: bool = False
    _rows: list[dict[str, int]] = field(default_factory=list)
    _latest: dict[str, int] = field(default_factory=dict)  # key to its row, the latest of duplicates

    def add(self, name: str, *, block: int, size: int, reason: str | None) -> None:
        """Add a member to its sample; ``reason`` is set if it must not be read."""
        match = _MEMBER.match(name)
        part = PARTS.get(match[2].lower()) if match else None
        if match is None or part is None:
            return
        key = match[1]
        row = self._latest.get(key)
        if row is None or part in self._rows[row]:
            self._rows.append({"reason": GOOD if row is None else REASONS.index("duplicate_key")})
            self.keys.append(key)
            row = self._latest[key] = len(self._rows) - 1
        self._rows[row] |= {part: block, f"{part}_size": size}
        if reason is not None and self._rows[row]["reason"] == GOOD:
            self._rows[row]["reason"] = REASONS.index(reason)

    def records(self) -> np.ndarray[Any, Any]:
        """Return one ``RECORD`` a sample; a sample without an image is bad."""
        records = np.zeros(len(self._rows), dtype=RECORD)
        for name in RECORD.names or ():
            records[name] = [row.get(name, 0) for row in self._rows]
        records["reason"][(records["image"] == 0) & (records["reason"] == GOOD)] = REASONS.index("missing_image")
        return records


def scan_tar(shard: Shard) -> TarScan:
    """List the samples of a tar.

    Raises:
        ValueError: not a tar.
    """
    scan = TarScan()
    with open_binary(shard) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                scan.truncated = not _add_members(tar, scan, shard=shard)
                end = tar.offset
        except tarfile.ReadError as error:
            if shard.size == 0:
                return TarScan(truncated=True)
            raise ValueError(f"{shard.url}: not a tar: {error}") from error
        file.seek(end)
        tail = file.read(BLOCK)
    scan.truncated |= len(tail) < BLOCK or any(tail)  # a tar ends with blocks of zeros
    return scan


def _add_members(tar: tarfile.TarFile, scan: TarScan, *, shard: Shard) -> bool:
    """Add all members to the scan.  Returns False if a header is damaged."""
    try:
        while (member := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # they would fill memory
            size = min(member.size, 2**32 - 1)  # a larger one is refused
            scan.add(member.name, block=member.offset_data // BLOCK, size=size, reason=_refusal(member, shard))
    except tarfile.TarError:
        return False
    return True


def _refusal(member: tarfile.TarInfo, shard: Shard) -> str | None:
    """Return the reason why a member must not be read, or None."""
    if member.isdir():
        return None
    if not member.isfile() or member.name.startswith("/") or ".." in member.name.split("/"):
        return "unsafe_member"
    if member.offset_data + member.size > shard.size:
        return "truncated_shard"
    return "too_large" if member.size >= 2**32 else None
