"""Shards: the state of a file, on disk or behind a URL, and ranges of its bytes; a failed request
is repeated.  A cache holds what each process read last.
"""

import os
import stat
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from gestalt.support.addresses import without_secrets
from gestalt.support.files import cache_home

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values by key, up to a total size.  It is empty in a copy, and in a forked process unless the
    values can be shared, as open files cannot.

    Args:
        limit: largest total size; the newest value is kept whatever its size.
        shared: True to keep the values in forked processes.
    """

    def __init__(self, limit: int, shared: bool = False) -> None:
        self._limit = limit
        self._shared = shared
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._size = 0
        self._process = os.getpid()

    def get(self, key: Hashable, read: Callable[[], tuple[Value, int]]) -> Value:
        """Return the value of a key; ``read`` makes it, with its size, if it is not cached."""
        if self._process != os.getpid() and not self._shared:
            self._kept, self._size, self._process = OrderedDict(), 0, os.getpid()
        if key not in self._kept:
            self._kept[key] = read()
            self._size += self._kept[key][1]
            while len(self._kept) > 1 and self._size > self._limit:
                self._size -= self._kept.popitem(last=False)[1][1]
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy the limit without the values."""
        return LRUCache, (self._limit, self._shared)


TRIES = 5
"""Number of requests for one object (the state of a file, or a range of it), with a pause that
doubles from a quarter of a second.
"""

TIMEOUT = 120.0
"""Seconds allowed for one request over HTTP: a range of 1 GiB needs 9 MB/s."""

STALL = 20.0
"""Seconds without a byte after which a request over HTTP ends."""

MISSING_STATUS = (404, 410)
REFUSED_STATUS = (401, 403)
RETRY_STATUS = (408, 429, *range(500, 600))
"""HTTP statuses of a missing file, of a refusal, and of a server that may answer later."""

SECRETS = "; user info and query of an address are never saved: give the address again with them"
"""The mend for a server that refuses an address without them."""


def is_remote(url: str) -> bool:
    """Return True if fsspec must open the URL, False for a local path."""
    return "://" in url


def over_http(url: str) -> bool:
    """Return True for a file of a web server."""
    return url.startswith(("http://", "https://"))


def filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, which the library makes once a process, and the path
    in it.
    """
    import fsspec  # imported here, because most runs read from disk

    keywords = {}
    if over_http(url):
        if not urlsplit(url).netloc:
            raise ValueError(f"{url}: names no server; write https://SERVER/PATH")
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=STALL, sock_read=STALL)
        keywords = {"client_kwargs": {"timeout": timeout}}
    try:
        system, path = fsspec.core.url_to_fs(url, **keywords)
    except (ImportError, TypeError, ValueError) as error:
        raise ValueError(
            f"{url}: fsspec cannot open it ({error}); install the package that it needs, or name "
            "another URL"
        ) from error
    return system, path


def with_retries(request: Callable[[], Any], url: str) -> Any:
    """Repeat a request up to ``TRIES`` times; messages name the URL without its secrets.

    Raises:
        FileNotFoundError, ValueError: at once, since a repetition would not help.
        ConnectionError: all requests failed.
    """
    url = without_secrets(url)
    for attempt in count(1):
        try:
            return request()
        except (FileNotFoundError, ValueError):
            raise
        except Exception as error:
            reason = without_secrets(" ".join(str(error).split())) or type(error).__name__
            if attempt == TRIES:
                raise ConnectionError(
                    f"{url}: could not be read in {TRIES} tries: {reason}"
                ) from error
            print(
                f"{url}: try {attempt} of {TRIES} failed ({reason}); trying again",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(2 ** (attempt - 3))


def read_range(url: str, start: int, stop: int) -> bytes:
    """Read bytes ``start`` to ``stop`` of a remote file.

    Raises:
        OSError: not read in several tries.
        ValueError: the server sends the whole file instead.
    """
    system, path = filesystem(url)
    content = with_retries(lambda: system.cat_file(path, start=start, end=stop), url)
    if len(content) > stop - start:
        raise ValueError(
            f"{url}: the server does not support range requests (requested {stop - start} bytes, "
            f"got {len(content)}); download it"
        )
    return content


async def _http_state(system: Any, url: str) -> tuple[int | None, str]:
    """Request the first byte of a file: the answer shows its size, and whether the server supports
    range requests.

    The library's own ``info`` reports every failed request as a missing file.
    """
    session = await system.set_session()
    range_header = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    keywords = {**system.kwargs, "headers": {**system.kwargs.get("headers", {}), **range_header}}
    # closed unread: it may be the whole file
    async with session.get(system.encode_url(url), **keywords) as response:
        status, headers, reason = response.status, response.headers, response.reason
    if status in MISSING_STATUS:
        raise FileNotFoundError(url)
    if status in RETRY_STATUS:
        raise ConnectionError(f"HTTP {status} {reason}")
    if status >= 400 and status != 416:  # 416 is the answer for an empty file
        mend = SECRETS if status in REFUSED_STATUS and without_secrets(url) == url else ""
        raise ValueError(f"{url}: cannot be read: HTTP {status} {reason}{mend}")
    total = headers.get("Content-Range" if status in (206, 416) else "Content-Length", "")
    total = total.rpartition("/")[2]
    size = int(total) if total.isdecimal() else None
    if status == 200 and size:
        raise ValueError(
            f"{url}: the server does not support range requests; download it, or choose a server "
            "that does"
        )
    return size, headers.get("ETag") or headers.get("Last-Modified") or ""


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


def _look_up_remote(url: str) -> Shard | None:
    """Return the state of a remote file, whose stamp is its entity tag or modification time, empty
    if unknown; None if it is missing.

    Raises:
        ValueError: its server cannot be reached, refuses, does not report the size, or cannot send
            a range of the bytes.
    """
    system, path = filesystem(url)
    try:
        if over_http(url):
            from fsspec.asyn import sync

            size, stamp = with_retries(lambda: sync(system.loop, _http_state, system, url), url)
        else:
            info = with_retries(lambda: system.info(path), url)
            names = ("ETag", "etag", "mtime", "LastModified", "last_modified", "created", "blob_id")
            stamp = next((str(info[name]) for name in names if info.get(name)), "")
            size = info.get("size")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{url}: cannot be reached: {error}") from error
    if size is None:
        raise ValueError(
            f"{url}: the server does not report its size, so it cannot be read by range; download "
            "it"
        )
    return Shard(url, size, stamp)


def look_up(url: str) -> Shard | None:
    """Return the current state of a shard; None if it does not exist.

    Raises:
        ValueError: not a regular file, since a pipe might never end; or a remote one whose server
            cannot be reached, refuses, does not report the size, or cannot send a range.
    """
    if is_remote(url):
        return _look_up_remote(url)
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
