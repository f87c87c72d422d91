"""The tars that ``data.root`` names, compressed ones unpacked.  Torch is not imported, so that
other files are refused at once.
"""

import gzip
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

from gestalt.data_modules.corpora.remote import is_remote
from gestalt.data_modules.corpora.shards import Shard, expand, look_up, open_binary
from gestalt.data_modules.digest import short_digest
from gestalt.support.files import replacing

COMPRESSED = (".tar.gz", ".tgz")


def open_tar(file: Any, *, url: str) -> tarfile.TarFile:
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


def list_tars(root: str | None) -> list[str]:
    """Return the tars that a pattern names, see ``shards.expand``.

    Raises:
        ValueError: no pattern, no tar that it names, or one that it names twice.
    """
    if root is None:
        raise ValueError(
            "tars need data.root, such as data.root='cc12m-train-{0000..1242}.tar', a folder, or a "
            ".txt that lists one a line"
        )
    urls = expand(root, suffixes=(".tar", *COMPRESSED))
    if not urls:
        raise ValueError(
            f"data.root={root}: no tar matches; name tars, a folder of them, or a .txt that lists "
            "one a line"
        )
    return urls


def unpack_tar(shard: Shard, *, cache: Path) -> Shard:
    """Return the unpacked copy of a compressed tar in the cache, made if it is missing, since a
    compressed tar can only be read from its start; any other tar as it is.

    Raises:
        ValueError: it is damaged, or the copy cannot be written.
    """
    if not shard.url.endswith(COMPRESSED):
        return shard
    state = short_digest(f"{shard.url}\0{shard.size}\0{shard.stamp}\0{shard.changed}")
    copy = cache / "unpacked" / state / f"{shard.name.removesuffix('.gz').replace('.tgz', '.tar')}"
    try:
        if not copy.is_file():
            with (
                open_binary(shard) as file,
                gzip.open(file) as packed,
                replacing(copy) as partial,
                partial.open("wb") as target,
            ):
                shutil.copyfileobj(packed, target)
    except Exception as error:  # of gzip, the disk, or the network, whose library has its own
        raise ValueError(
            f"{shard.url}: cannot be unpacked into data.cache={cache}: {error}; copy the file "
            "again, make room, or choose another data.cache"
        ) from error
    unpacked = look_up(str(copy))
    assert unpacked is not None
    return unpacked


def check_first_tar(root: str | None) -> None:
    """Check that the pattern names tars, and that the first one on disk begins with a header; URLs
    are looked up later.

    Raises:
        ValueError: as ``list_tars`` and ``open_tar``.
    """
    if root is not None and is_remote(root):
        return
    plain = [url for url in list_tars(root) if not url.endswith(COMPRESSED)]
    first = next(filter(os.path.isfile, plain), None)
    if first is not None and os.path.getsize(first):
        with open(first, "rb") as file, open_tar(file, url=first):
            pass
