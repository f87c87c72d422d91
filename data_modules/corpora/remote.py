"""Files behind URLs: their state, and ranges of their bytes.  A failed request is repeated."""

import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from gestalt.support.addresses import without_secrets

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


def state_of(url: str) -> tuple[int, str] | None:
    """Return the size of a remote file in bytes, and its stamp, the entity tag or modification
    time, empty if unknown; None if it is missing.

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
    return size, stamp
