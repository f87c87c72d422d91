"""Tars, and the samples in them.  Torch is not imported, so that other files than tars are refused
at once.

A tar follows webdataset's convention, as img2dataset writes it: the members of a sample share a
key, the path up to the first dot of its last part.  Source: webdataset/webdataset,
src/webdataset/tariterators.py, base_plus_ext of version 1.0.2.  Unlike there, members of one key
need not be adjacent.  An image such as ``a.0.jpg`` is a further part of sample ``a`` if that has a
part of a known ending, and otherwise a bad sample.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

from gestalt.data_modules.corpora.remote import is_remote
from gestalt.data_modules.corpora.shard_names import COMPRESSED, expand, unpacked_name
from gestalt.data_modules.corpora.shards import Shard, open_binary
from gestalt.data_modules.pixels.bad_samples import GOOD, REASONS
from gestalt.support.addresses import without_secrets
from gestalt.support.files import free_bytes, replacing, short_digest, value_hash

TAR_BLOCK = 512
"""Bytes of a tar's unit: content always begins at a multiple."""

MAX_TEXT = 16 * 2**20
"""Most bytes of a ``.txt`` or ``.json``; a caption has 10,000 characters at most."""

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jp2", "avif")

PARTS = {**dict.fromkeys(IMAGES, "image"), "txt": "text", "json": "json"}
"""Part of a sample by the ending after the first dot of a member's name; other endings are
skipped.
"""

VALUES = ("url", "uid", "sha256")
"""Keys of a ``.json`` by which tables about the samples can be joined to them."""

_MEMBER = re.compile(r"^((?:.*/)?[^/.]+)\.([^/]*)$")


def open_tar(file: Any, url: str) -> tarfile.TarFile:
    """Open a tar for reading its members; names that are not UTF-8 keep their bytes as surrogates.

    Raises:
        ValueError: the file does not begin with a header.
    """
    try:
        return tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape")
    except OSError:
        raise
    except Exception as error:  # the library's reader of headers raises many types
        raise ValueError(f"{url}: not a tar: {str(error)[:200]}") from error


def address_of(shard: Shard) -> str:
    """Return a shard's URL or absolute path."""
    return shard.path if is_remote(shard.path) else os.path.abspath(shard.path)


def unpack_tar(shard: Shard, cache: Path) -> Shard:
    """Return a compressed tar with its unpacked copy in the cache, which is made if missing, since
    a compressed tar can only be read from its start; any other tar as it is.

    Raises:
        ValueError: it is damaged, or the copy cannot be written.
    """
    if not shard.name.endswith(COMPRESSED):
        return shard
    try:
        with open_binary(shard) as file:
            file.seek(max(0, shard.size - 8))
            trailer = file.read(8)  # checksum and size of the unpacked bytes, modulo 4 GiB
            state = f"{address_of(shard)}\0{shard.size}\0{shard.stamp}\0{trailer.hex()}"
            copy = cache / "unpacked" / short_digest(state) / unpacked_name(shard.name)
            if not copy.is_file():
                needed = max(shard.size, int.from_bytes(trailer[4:], "little"))
                free = free_bytes(cache)
                if free < needed:
                    raise OSError(f"it takes {needed:,} bytes there, and {free:,} are free")
                file.seek(0)
                with (
                    gzip.open(file) as packed,
                    replacing(copy) as partial,
                    partial.open("wb") as target,
                ):
                    shutil.copyfileobj(packed, target)
        # the stamp of the compressed tar: ranks that unpack it at once replace each other's copy
        return shard._replace(size=copy.stat().st_size, changed="", copy=str(copy))
    except Exception as error:  # gzip, the disk and the library of the network raise many types
        raise ValueError(
            f"{shard.url}: cannot be unpacked into data.cache={cache}: {error}; copy the file "
            "again, free disk space, or choose another data.cache"
        ) from error


def check_first_tar(root: str | None) -> None:
    """Check that the pattern names tars, and that the first one on disk begins with a header; URLs
    are looked up later.

    Raises:
        ValueError: no pattern, no tar that it names, one that it names twice, or a first file that
            is no tar.
    """
    if root is not None and is_remote(root):
        return
    plain = [url for url in expand(root) if not without_secrets(url).endswith(COMPRESSED)]
    first = next(filter(os.path.isfile, plain), None)
    if first is not None and os.path.getsize(first):
        with open(first, "rb") as file:
            open_tar(file, url=first)


Samples = list[tuple[str, dict[str, int]]]
"""Each sample with its key and the fields of ``tar_index.RECORD`` that are not 0, and
``reason``, in order of first member.
"""


def scan_tar(shard: Shard) -> tuple[Samples, str, bool]:
    """List the samples of a tar up to its end or its first damaged header.

    Returns:
        The samples, the hash over the bytes of all ``.txt`` and ``.json``, in order, and whether
        the tar lacks its closing blocks.

    Raises:
        ValueError: not a tar, or one that cannot be read.
    """
    samples: Samples = []
    captions, truncated, position = hashlib.sha256(), True, 0
    if not shard.size:
        return samples, captions.hexdigest(), truncated
    latest: dict[str, dict[str, int]] = {}  # key to its row, the latest of duplicates
    dotted = {}  # name of an image with a further dot to its sample's key
    try:
        with open_binary(shard) as file, open_tar(file, shard.url) as tar:
            while position <= shard.size and (member := tar.next()):
                tar.members.clear()  # type: ignore[attr-defined]  # which would hold millions
                if member.size < 0 or tar.offset <= position:
                    raise ValueError(
                        f"{shard.url}, header before byte {position:,}: a negative size; the tar "
                        "is damaged, make it again"
                    )
                position = tar.offset
                match = _MEMBER.match(member.name)
                if match is None:
                    continue
                key, endings = match.groups()
                part = PARTS.get(endings.lower())
                if part is None:
                    name, _, ending = member.name.rpartition(".")
                    if ending.lower() in IMAGES:
                        dotted[name] = key
                    continue
                row = latest.get(key, {})
                if not row or part in row:
                    row = {"reason": REASONS.index("duplicate_key") if row else GOOD}
                    latest[key] = row
                    samples.append((key, row))
                reason = _refusal(member, shard)
                size = min(member.size, 2**32 - 1)  # a larger one is refused
                row |= {part: member.offset_data // TAR_BLOCK, f"{part}_size": size}
                if reason is not None and row["reason"] == GOOD:
                    row["reason"] = REASONS.index(reason)
                if part != "image" and reason is None and size <= MAX_TEXT:
                    file.seek(member.offset_data)
                    content = file.read(size)
                    captions.update(content)
                    row |= _hashes(content) if part == "json" else {}
            if position <= shard.size:
                file.seek(position)
                truncated = file.read(TAR_BLOCK) != bytes(TAR_BLOCK)
    except ValueError:
        raise
    except tarfile.ReadError:  # a damaged header ends the list
        pass
    except Exception as error:
        # the library's reader of headers, the disk and the network raise many types
        raise ValueError(f"{shard.url}: cannot be read: {str(error)[:200]}") from error
    bad = {"reason": REASONS.index("dotted_name")}
    samples += [(name, bad) for name, key in dotted.items() if key not in latest]
    return samples, captions.hexdigest(), truncated


def _hashes(content: bytes) -> dict[str, int]:
    """Return the hashes of those ``VALUES`` that a ``.json`` has."""
    try:
        fields = json.loads(content)
        return {name: value_hash(fields.get(name)) for name in VALUES}
    except (ValueError, AttributeError, RecursionError):  # a bad sample where it is read
        return {}


def _refusal(member: tarfile.TarInfo, shard: Shard) -> str | None:
    """Return the reason why a member must not be read, or None."""
    if member.isdir():
        return None
    if (
        not member.isfile()
        or member.issparse()
        or member.name.startswith("/")
        or ".." in member.name.split("/")
    ):
        return "unsafe_member"
    if member.offset_data + member.size > shard.size:
        return "truncated_shard"
    return "too_large" if member.size >= 2**32 else None
