"""Names of shards: list those that a pattern, a folder or a file of names stands for, on disk or
behind a URL, and those beside them that it leaves out.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable
from math import prod
from pathlib import Path

from braceexpand import braceexpand

from gestalt.data_modules.corpora.remote import filesystem, is_remote, over_http, with_retries
from gestalt.data_modules.labels.folders import read_list
from gestalt.support.typed import NotThere

MAX_NAMES = 1_000_000
"""Most files that a pattern may name."""

MAX_PATTERN = 2**16  # characters

COMPRESSED = (".tar.gz", ".tgz")
SUFFIXES = (".tar", *COMPRESSED)
"""Endings of the files of a folder that are shards."""

_NUMBER = re.compile(r"\d+(?=(-of-\d+)?\D*$)")


def unpacked_name(url: str) -> str:
    """Return the name of a compressed tar once unpacked, ``x.tar`` for ``x.tar.gz`` and ``x.tgz``;
    other names unchanged.
    """
    return re.sub(r"\.(tar\.gz|tgz)\Z", ".tar", url)


def expand(pattern: str | None) -> list[str]:
    """List the URLs that a pattern names, in order, without checking that they exist.

    Args:
        pattern: a file; ``{0000..2175}`` and ``{a,b}`` as in a shell; a folder, for all its files
            that end in one of ``SUFFIXES``; a glob with ``*``; or a ``.txt`` file with one of these
            a line.  A folder or glob leaves out a compressed tar whose plain tar it has as well.

    Raises:
        ValueError: no pattern, a list that cannot be read, more than ``MAX_NAMES`` files, a folder
            or glob without such a file; or a file that is named twice, compressed or not.
    """
    if pattern is None:
        raise NotThere(
            "tars need data.root, such as data.root='cc12m-train-{0000..2175}.tar', a folder, or a "
            ".txt that lists one a line; `gestalt data get` downloads some"
        )
    lines = [pattern]
    urls: list[str] = []
    if pattern.endswith(".txt"):
        try:
            lines = read_list(Path(pattern))
        except ValueError as error:
            raise ValueError(f"data.root: {error}; a .txt lists shards, one a line") from error
    for line in lines:
        urls += _expand(line)
        if len(urls) > MAX_NAMES:
            raise ValueError(f"data.root={pattern}: lists more than {MAX_NAMES:,} files")
    for url, times in Counter(map(unpacked_name, urls)).items():
        if times > 1:
            raise ValueError(
                f"data.root={pattern}: {url} is named twice, compressed or not: its samples "
                "would be read twice an epoch"
            )
    return urls


def _expand(pattern: str) -> list[str]:
    """List the URLs that a pattern other than a list names."""
    try:
        _check_count(pattern)
        names = list(braceexpand(pattern))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"data.root={pattern[:80]}: {error}; choose braces such as {{0000..2175}}"
        ) from error
    urls = []
    for name in names:
        if "*" in name or name.endswith("/") or (not is_remote(name) and os.path.isdir(name)):
            urls += _matching(name)
        else:
            urls.append(name)
    return urls


def _check_count(pattern: str) -> None:
    """Check, without making them, that a pattern has at most ``MAX_NAMES`` names.

    Raises:
        ValueError: it has more, or is too long to count.
    """

    def names(text: str) -> int:
        # inner braces were replaced by their counts, between NULs
        return sum(prod(map(int, re.findall("\0(.*?)\0", part))) for part in text.split(","))

    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"it has {len(pattern):,} characters, at most {MAX_PATTERN:,} are read")
    while braces := re.search(r"\{([^{}]*)\}", pattern):
        ends = re.fullmatch(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(-?\d+))?", braces[1])
        if ends:
            first, last = (ord(end) if end.isalpha() else int(end) for end in ends.groups()[:2])
            count = abs(last - first) // max(1, abs(int(ends[3] or 1))) + 1
        else:
            count = names(braces[1])
        pattern = f"{pattern[: braces.start()]}\0{count}\0{pattern[braces.end() :]}"
    if (count := names(pattern.replace(",", ""))) > MAX_NAMES:
        raise ValueError(f"it names {count:,} files, at most {MAX_NAMES:,} are read")


def _matching(url: str) -> list[str]:
    """List the shards of a folder or glob, sorted."""
    if is_remote(url):
        system, path = filesystem(url)
        pattern = path if "*" in path else path.rstrip("/") + "/*"
        try:
            names = [
                system.unstrip_protocol(name)
                for name in with_retries(lambda: system.glob(pattern), url)
            ]
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise ValueError(f"data.root={url}: cannot be listed: {error}") from error
    else:
        names = glob.glob(url if "*" in url else glob.escape(url.rstrip("/")) + "/*")
    shards = {name for name in names if name.endswith(SUFFIXES)}
    if not shards:
        raise NotThere(
            f"data.root={url}: no file in it ends in {' or '.join(SUFFIXES)}; name a folder of tars"
        )
    return sorted(
        name for name in shards if unpacked_name(name) == name or unpacked_name(name) not in shards
    )


def unread(urls: Iterable[str]) -> list[str]:
    """List, sorted, the files beside shards that are not among them and whose names differ from one
    of theirs only in the number.

    Files of a web server, or of a folder that may not be listed, are unknown.
    """
    named = {os.path.split(url) for url in urls}
    series = {(folder, _series(name)) for folder, name in named}
    read = {(folder, unpacked_name(name)) for folder, name in named}
    return sorted(
        os.path.join(folder, name)
        for folder in {folder for folder, _ in named}
        for name in _names_in(folder)
        if (folder, _series(name)) in series and (folder, unpacked_name(name)) not in read
    )


def _series(name: str) -> str:
    """Return the name of a file without its number."""
    return _NUMBER.sub("", name, count=1)


def _names_in(folder: str) -> list[str]:
    if over_http(folder):
        return []
    try:
        if not is_remote(folder):
            return os.listdir(folder or ".")
        system, path = filesystem(folder)
        paths = system.ls(path, detail=False)
    except (OSError, ValueError):  # its files can be read all the same
        return []
    return [path.rsplit("/", 1)[-1] for path in paths]
