"""The tars that ``data.root`` names, and the header of a tar.  Torch is not imported, so that other files are refused at once."""

import os
import tarfile

from data_modules.corpora.remote import is_remote
from data_modules.corpora.shards import expand
from data_modules.corpora.unpacking import COMPRESSED

BLOCK = 512
"""Bytes of a tar's unit: content always begins at a multiple."""


def decode_header(block: bytes, *, url: str, offset: int) -> tarfile.TarInfo | None:
    """Decode a header; None where it is damaged.

    Args:
        block: its ``BLOCK`` bytes, fewer at the end of the file.
        url: URL of the tar.
        offset: offset of the header, bytes.

    Raises:
        ValueError: the file does not begin with a header.
    """
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        if offset == 0 and block:
            raise ValueError(f"{url}: not a tar: {error}") from error
        return None


def list_tars(root: str | None) -> list[str]:
    """Return the tars that a pattern names, see ``shards.expand``.

    Raises:
        ValueError: no pattern, no tar that it names, or one that it names twice.
    """
    if root is None:
        raise ValueError("tars need data.root, such as data.root='cc12m-train-{0000..1242}.tar', a folder, or a .txt that lists one a line")
    urls = expand(root, suffixes=(".tar", *COMPRESSED))
    if not urls:
        raise ValueError(f"data.root={root}: no tar matches; name tars, a folder of them, or a .txt that lists one a line")
    return urls


def check_first_tar(root: str | None) -> None:
    """Check that the pattern names tars, and that the first one on disk begins with a header; URLs are looked up later.

    Raises:
        ValueError: as ``list_tars`` and ``decode_header``.
    """
    if root is not None and is_remote(root):
        return
    first = next((url for url in list_tars(root) if not url.endswith(COMPRESSED) and os.path.isfile(url)), None)
    if first is None:
        return
    with open(first, "rb") as file:
        block = file.read(BLOCK)
    if block != bytes(BLOCK):  # an empty tar
        decode_header(block, url=first, offset=0)
