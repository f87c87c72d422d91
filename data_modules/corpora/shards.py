"""Shards: which files a pattern names, here or behind a URL, and bytes of them by range."""

import glob
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braceexpand import braceexpand

OPEN_FILES = 64
"""Most shards that a process holds open; a window of shards is read at a time."""

TRIES = 5
"""How often a range of a remote shard is asked for, with a pause that doubles from a quarter of a second."""

NEAR = 4096
"""Bytes between two ranges that are read along rather than asked for apart."""

Range = tuple[int, int]
"""Offset and size in bytes."""


@dataclass(frozen=True)
class Shard:
    """One file of a corpus as it was found.

    Attributes:
        url: a path, or a URL that fsspec knows.
        size: bytes.
        stamp: changes when the file does: its time of modification, or its entity tag; empty where neither is known.
    """

    url: str
    size: int
    stamp: str

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]


def is_remote(url: str) -> bool:
    """Whether fsspec is asked, rather than the system."""
    return "://" in url


def expand(pattern: str, *, suffixes: Sequence[str]) -> list[str]:
    """The addresses that a pattern names, in order; whether they exist is not asked.

    Args:
        pattern: a file; ``{0000..1242}`` and ``{a,b}`` as in a shell; a folder, for all files in it that end in ``suffixes``; with ``*``
            all that match; or a ``.txt`` file with any of these, one a line.
        suffixes: of the files of a folder.

    Raises:
        ValueError: a folder without such a file, a pattern with ``*`` that matches nothing, or a file that is named twice, which is also
            one that lies there plain and compressed.
    """
    found = _named(pattern, suffixes=suffixes)
    first: dict[str, str] = {}
    for url in found:
        stem = url.removesuffix(next((suffix for suffix in suffixes if url.endswith(suffix)), ""))
        if stem in first:
            raise ValueError(f"data.root={pattern}: {url} is named twice (as {first[stem]}): its samples would come twice an epoch")
        first[stem] = url
    return found


def _named(pattern: str, *, suffixes: Sequence[str]) -> list[str]:
    if pattern.endswith(".txt"):
        if not Path(pattern).is_file():
            raise ValueError(f"data.root={pattern}: no such file; a .txt names shards, one a line")
        lines = [line.strip() for line in Path(pattern).read_text(encoding="utf-8").splitlines()]
        return [url for line in lines if line for url in _named(line, suffixes=suffixes)]
    found = []
    try:
        urls = list(braceexpand(pattern))
    except ValueError as error:
        raise ValueError(f"data.root={pattern}: {error}; choose braces such as {{0000..1242}}") from error
    for url in urls:
        if "*" in url or (not is_remote(url) and os.path.isdir(url)) or url.endswith("/"):
            matches = _matching(url, suffixes=suffixes)
            if not matches:
                raise ValueError(f"data.root={url}: holds no file that ends in {' or '.join(suffixes)}")
            found += matches
        else:
            found.append(url)
    return found


def _matching(url: str, *, suffixes: Sequence[str]) -> list[str]:
    pattern = url if "*" in url else url.rstrip("/") + "/*"
    if is_remote(url):
        system, path = filesystem(url)
        names = [system.unstrip_protocol(name) for name in system.glob(path if "*" in path else path.rstrip("/") + "/*")]
    else:
        names = glob.glob(pattern)
    return sorted(name for name in names if name.endswith(tuple(suffixes)))


def look_up(url: str) -> Shard | None:
    """A shard as it lies there now; None where there is none.

    Raises:
        ValueError: its server cannot be reached, or does not say its size.
    """
    try:
        if not is_remote(url):
            found = os.stat(url)
            return Shard(url, found.st_size, str(found.st_mtime_ns))
        system, path = filesystem(url)
        info = system.info(path)
    except FileNotFoundError as error:
        cause = error.__cause__  # of HTTP whatever goes wrong is a file that is not found
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
            raise ValueError(f"{url}: cannot be reached: {cause}") from error
        return None
    if info.get("size") is None:
        raise ValueError(f"{url}: the server does not say its size, so it cannot be read by range; copy it here")
    stamp = next((str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created") if info.get(key)), "")
    return Shard(url, int(info["size"]), stamp)


_SYSTEMS: dict[tuple[int, str], Any] = {}


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, one a process (their connections do not survive a fork), and the path in it."""
    import fsspec  # here, because most runs read what lies on disk

    protocol, path = fsspec.core.split_protocol(url)
    key = (os.getpid(), f"{protocol}://{path.split('/', 1)[0]}")
    if key not in _SYSTEMS:
        try:
            _SYSTEMS[key] = fsspec.core.url_to_fs(url, skip_instance_cache=protocol != "memory")[0]
        except ImportError as error:
            raise ValueError(f"{url}: {error}; it is a package of its own") from error
    return _SYSTEMS[key], _SYSTEMS[key]._strip_protocol(url)


class ShardReader:
    """Reads ranges of shards; files stay open, at most ``OPEN_FILES`` of them, and every process opens its own."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._files: OrderedDict[str, int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Open files stay in their process."""
        return {"_files": OrderedDict()}

    def __del__(self) -> None:
        """Close what is open here."""
        for opened in self._files.values():
            os.close(opened)

    def read(self, shard: Shard, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of each range, shorter where the shard ends before.

        Raises:
            OSError: they cannot be read; of a remote shard after ``TRIES`` tries.
            ValueError: a local shard has another size than when the run began.
        """
        first, last = min(offset for offset, _ in ranges), max(offset + size for offset, size in ranges)
        if last - first <= sum(size for _, size in ranges) + NEAR * len(ranges):
            whole = self._range(shard, first, last)
            return [whole[offset - first : offset - first + size] for offset, size in ranges]
        return [self._range(shard, offset, offset + size) for offset, size in ranges]

    def _range(self, shard: Shard, start: int, stop: int) -> bytes:
        if start == stop:
            return b""
        if not is_remote(shard.url):
            return os.pread(self._opened(shard), stop - start, start)
        system, path = filesystem(shard.url)
        stop = min(stop, shard.size)
        content: bytes = _tried(lambda: system.cat_file(path, start=start, end=stop), what=shard.url)
        if len(content) > stop - start:
            raise ValueError(
                f"{shard.url}: the server does not read by range ({stop - start} bytes asked for, {len(content)} given); copy it here"
            )
        return content

    def _opened(self, shard: Shard) -> int:
        if shard.url in self._files:
            self._files.move_to_end(shard.url)
            return self._files[shard.url]
        if len(self._files) >= OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        opened = os.open(shard.url, os.O_RDONLY)
        if os.fstat(opened).st_size != shard.size:
            os.close(opened)
            raise ValueError(f"{shard.url} was {shard.size} bytes when the run began and is another size now; start again")
        self._files[shard.url] = opened
        return opened


def _tried(ask: Callable[[], bytes], *, what: str) -> bytes:
    pause = 0.25
    for attempt in range(TRIES):
        try:
            return ask()
        except FileNotFoundError:
            raise
        except Exception as error:
            if attempt == TRIES - 1:
                raise ConnectionError(f"{what}: not read after {TRIES} tries: {error}") from error
            time.sleep(pause)
            pause *= 2
    raise AssertionError("the last try returns or raises")
