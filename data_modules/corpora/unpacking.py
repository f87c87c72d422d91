"""Unpacking: a compressed tar cannot be read in the middle, so it is unpacked once, into the cache, which is bounded."""

import gzip
import hashlib
import zlib
from pathlib import Path

from data_modules.corpora.shards import Shard, filesystem, is_remote, look_up
from gestalt.support.files import replacing

COMPRESSED = (".tar.gz", ".tgz")
CHUNK = 4 * 2**20
"""Bytes unpacked at a time."""


def unpacked(shard: Shard, *, cache: Path, limit: int) -> Shard:
    """The tar in a compressed one, in the cache; made unless it is there.

    Args:
        shard: ends in one of ``COMPRESSED``.
        cache: folder for what can be made again.
        limit: most bytes that all unpacked tars may have together.

    Raises:
        ValueError: it would be more than that, the folder cannot be written, or the file is not gzip or cut short.
    """
    state = hashlib.sha256(f"{shard.url}\0{shard.size}\0{shard.stamp}".encode()).hexdigest()[:16]
    place = cache / "unpacked" / state / (shard.name.removesuffix(".tgz").removesuffix(".gz").removesuffix(".tar") + ".tar")
    if not place.is_file():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"data.cache={cache}: {shard.url} cannot be unpacked there: {error.strerror}") from error
        used = sum(path.stat().st_size for path in (cache / "unpacked").glob("*/*.tar"))
        with replacing(place) as partial:
            _unpack(shard, partial, room=limit - used, cache=cache)
    found = look_up(str(place))
    assert found is not None
    return found


def _unpack(shard: Shard, target: Path, *, room: int, cache: Path) -> None:
    try:
        with _opened(shard) as packed, target.open("wb") as file:
            while chunk := packed.read(CHUNK):
                room -= len(chunk)
                if room < 0:
                    raise ValueError(
                        f"{shard.url}: unpacked tars would pass data.cache_gib in {cache / 'unpacked'}; raise it, empty that folder, "
                        "name another by data.cache, or unpack the tars yourself"
                    )
                file.write(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{shard.url}: cannot be unpacked: {error}") from error


def _opened(shard: Shard) -> gzip.GzipFile:
    if not is_remote(shard.url):
        return gzip.open(shard.url, "rb")
    system, path = filesystem(shard.url)
    return gzip.GzipFile(fileobj=system.open(path, "rb"))
