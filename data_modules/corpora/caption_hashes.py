"""Hashes of remote caption columns, kept in ``data.cache``: an unchanged file is not read again at the next start."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from data_modules.corpora.remote import is_remote
from data_modules.corpora.shards import Shard
from data_modules.digest import short_digest
from gestalt.support.files import replacing

DIGITS = 64
"""Hexadecimal digits of a SHA-256."""


class CaptionHashes:
    """The hashes of one column of the files of one root, by the state of each file: its address, size and stamp."""

    def __init__(self, cache: Path, *, root: str, column: str) -> None:
        """Read the kept hashes; a damaged file of hashes counts as empty."""
        name = short_digest(f"{root}\0{column}")
        self._place = cache / "captions" / f"{name}.json"
        self._kept = _read(self._place)
        self._current: dict[str, str] = {}

    def of(self, shard: Shard, *, compute: Callable[[], bytes]) -> bytes:
        """Return the hash of a file's column: the one kept for its present state, or a new one.  Several threads may call it.

        Hashes of local files, which are read at the speed of the disk, are not kept, nor those of files whose server gives no stamp.
        """
        if not is_remote(shard.url) or not shard.stamp:
            return compute()
        state = f"{shard.url}\0{shard.size}\0{shard.stamp}"
        kept = self._kept.get(state)
        digest = compute() if kept is None else bytes.fromhex(kept)
        self._current[state] = digest.hex()
        return digest

    def keep(self) -> None:
        """Write the hashes if they changed; if writing fails, the next start computes them again."""
        if self._current != self._kept:
            with suppress(OSError), replacing(self._place) as partial:
                partial.write_text(json.dumps(self._current))


def _read(place: Path) -> dict[str, str]:
    try:
        kept = json.loads(place.read_text())
        return {str(state): digits for state, digits in kept.items() if len(digits) == DIGITS and bytes.fromhex(digits)}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
