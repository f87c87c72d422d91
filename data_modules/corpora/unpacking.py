"""Unpack compressed tars, once, into a cache of limited size, since a compressed tar can only be read from its start."""

import gzip
from pathlib import Path

from data_modules.corpora.shards import Shard, look_up, open_binary
from data_modules.digest import short_digest
from gestalt.support.files import replacing

COMPRESSED = (".tar.gz", ".tgz")
CHUNK = 4 * 2**20
"""Bytes unpacked at a time."""


def cache_folder(cache: str | None) -> Path:
    """Return the folder that ``data.cache`` means."""
    return Path(cache) if cache is not None else Path.home() / ".cache" / "gestalt"


def unpacked(shard: Shard, *, cache: Path, limit: int) -> Shard:
    """Return the unpacked copy of a compressed tar; it is made if it is missing.

    Args:
        shard: a file with one of the endings in ``COMPRESSED``.
        cache: folder for the copy.
        limit: largest total size of all unpacked tars, bytes.

    Raises:
        ValueError: the limit is exceeded, the folder is read-only, or the file is truncated or not gzip.
    """
    state = short_digest(f"{shard.url}\0{shard.size}\0{shard.stamp}")
    place = cache / "unpacked" / state / (shard.name.removesuffix(".tgz").removesuffix(".gz").removesuffix(".tar") + ".tar")
    if not place.is_file() or place.stat().st_mtime_ns < int(shard.changed or 0):  # rewritten with the same size and time
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"data.cache={cache}: cannot unpack {shard.url} there: {error.strerror}") from error
        used = sum(path.stat().st_size for path in (cache / "unpacked").glob("*/*.tar"))
        with replacing(place) as partial:
            _unpack(shard, partial, room=limit - used, cache=cache)
    copy = look_up(str(place))
    assert copy is not None
    return copy


def _unpack(shard: Shard, target: Path, *, room: int, cache: Path) -> None:
    try:
        with open_binary(shard) as file, gzip.GzipFile(fileobj=file) as packed, target.open("wb") as unpacked_file:
            while chunk := packed.read(CHUNK):
                room -= len(chunk)
                if room < 0:
                    raise ValueError(
                        f"{shard.url}: unpacked tars would exceed data.cache_gib in {cache / 'unpacked'}; raise it, empty that folder, "
                        "choose another by data.cache, or unpack the tars yourself"
                    )
                unpacked_file.write(chunk)
    except ValueError:
        raise
    except Exception as error:  # of gzip, the disk, or the network, whose library has errors of its own
        raise ValueError(f"{shard.url}: cannot be unpacked: {' '.join(str(error).split()) or type(error).__name__}") from error
