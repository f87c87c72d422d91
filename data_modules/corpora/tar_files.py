"""The tars that ``data.root`` names.  Torch is not imported, so that other files are refused at
once.
"""

import os
import tarfile
from typing import Any

from gestalt.data_modules.corpora.remote import is_remote
from gestalt.data_modules.corpora.shards import expand

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
        ValueError: no pattern, no tar that it names, one that it names twice, or a compressed one.
    """
    if root is None:
        raise ValueError(
            "tars need data.root, such as data.root='cc12m-train-{0000..1242}.tar', a folder, or a "
            ".txt that lists one a line"
        )
    urls = expand(root, suffix=".tar")
    if not urls:
        raise ValueError(
            f"data.root={root}: no tar matches; name tars, a folder of them, or a .txt that lists "
            "one a line"
        )
    for url in urls:
        if url.endswith(COMPRESSED):
            raise ValueError(
                f"{url}: a compressed tar can only be read from its start; unpack it by gunzip and "
                "name the .tar"
            )
    return urls


def check_first_tar(root: str | None) -> None:
    """Check that the pattern names tars, and that the first one on disk begins with a header; URLs
    are looked up later.

    Raises:
        ValueError: as ``list_tars`` and ``open_tar``.
    """
    if root is not None and is_remote(root):
        return
    first = next((url for url in list_tars(root) if os.path.isfile(url)), None)
    if first is not None and os.path.getsize(first):
        with open(first, "rb") as file, open_tar(file, url=first):
            pass
