"""Shards: the state of a file of a corpus, on disk or behind a URL, and ranges of its bytes."""

import os
import stat
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.data_modules.corpora.lru_cache import LRUCache
from gestalt.data_modules.corpora.remote import filesystem, is_remote, read_range, state_of
from gestalt.support.addresses import without_secrets
from gestalt.support.files import cache_home

READ_AHEAD = 2**20
"""Bytes of one request where a file is read from its start to its end."""

THREADS = 16
"""Parallel requests for the state of files."""

OPEN_FILES = 64
"""Largest number of shards that a process holds open; training reads a window of shards at a
time.
"""

NEAR = 4096
"""Bytes between two ranges that are cheaper to read than a second request."""

Range = tuple[int, int]
"""Offset and size in bytes."""


class Shard(NamedTuple):
    """One file of a corpus.

    Attributes:
        url: a path, or a URL that fsspec can open.
        size: bytes.
        stamp: modification time or entity tag, which changes with the file; empty if unknown.
        changed: for a local file, the time of the last change of its bytes or inode, which no
            program can set; empty for others.
        copy: the unpacked file that is read in its place, whose bytes ``size`` counts; empty for a
            file that is read itself.
    """

    url: str
    size: int
    stamp: str
    changed: str = ""
    copy: str = ""

    @property
    def path(self) -> str:
        """Path or URL of the bytes that are read."""
        return self.copy or self.url

    @property
    def name(self) -> str:
        """The last part of the path, without the query of a URL."""
        return without_secrets(self.path).rstrip("/").rsplit("/", 1)[-1]


def cache_folder(cache: str | None) -> Path:
    """Return the folder that ``data.cache`` means."""
    return Path(cache) if cache is not None else cache_home()


def look_up(url: str) -> Shard | None:
    """Return the current state of a shard; None if it does not exist.

    Raises:
        ValueError: not a regular file, since a pipe might never end; or a remote one whose server
            cannot be reached, refuses, does not report the size, or cannot send a range.
    """
    if is_remote(url):
        state = state_of(url)
        return None if state is None else Shard(url, *state)
    try:
        status = os.stat(url)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ValueError(f"{url!r}: cannot be read: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{url}: not a regular file; name files, folders or patterns of files")
    return Shard(url, status.st_size, str(status.st_mtime_ns), changed=str(status.st_ctime_ns))


def open_binary(shard: Shard) -> Any:
    """Open a shard for reading from its start; a remote one reads ahead by ``READ_AHEAD``, and
    repeats a failed request.
    """
    if not is_remote(shard.path):
        return open(shard.path, "rb")
    from fsspec.spec import AbstractBufferedFile

    class Ranges(AbstractBufferedFile):  # type: ignore[misc]
        """The file's bytes, by ``read_range``."""

        def _fetch_range(self, start: int, end: int) -> bytes:
            return read_range(shard.path, start, end)

    return Ranges(*filesystem(shard.path), size=shard.size, block_size=READ_AHEAD)


class _LocalShard(FileIO):
    """A local shard that is open while it is referred to."""

    def __init__(self, shard: Shard) -> None:
        """Open it and check that its size has not changed."""
        super().__init__(shard.path)
        if os.fstat(self.fileno()).st_size != shard.size:
            raise ValueError(
                f"{shard.url} had {shard.size} bytes when the run began and has another size now; "
                "restart the run"
            )

    def __del__(self) -> None:
        self.close()  # without a warning


class ShardReader:
    """Reads ranges of shards and keeps at most ``OPEN_FILES`` files open in each process."""

    def __init__(self) -> None:
        self._files: LRUCache[_LocalShard] = LRUCache(OPEN_FILES)

    def read(self, shard: Shard, ranges: list[Range]) -> list[bytes]:
        """Read ranges; the bytes are fewer where the shard ends early.

        Raises:
            OSError: they cannot be read, for a remote shard within the limits of ``with_retries``.
            ValueError: a local shard has changed its size since the run began.
        """
        first = min(offset for offset, _ in ranges)
        last = max(offset + size for offset, size in ranges)
        near = last - first <= sum(size + NEAR for _, size in ranges)
        if is_remote(shard.path) and near:
            whole = self._range(shard, first, last)
            return [whole[offset - first : offset - first + size] for offset, size in ranges]
        return [self._range(shard, offset, offset + size) for offset, size in ranges]

    def _range(self, shard: Shard, start: int, stop: int) -> bytes:
        stop = min(stop, shard.size)
        if start >= stop:
            return b""
        if is_remote(shard.path):
            return read_range(shard.path, start, stop)
        file = self._files.get(shard.path, lambda: (_LocalShard(shard), 1))
        return os.pread(file.fileno(), stop - start, start)
