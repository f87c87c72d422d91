"""Hashes of values that tell pairs apart, such as URLs, by which tables are joined to pairs."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray


def value_hash(value: Any) -> int:
    """Return a hash of 64 bits of a value that tells pairs apart, such as a URL: of 32 hexadecimal
    digits, as DataComp's ``uid`` has, one half xor the other; else BLAKE2b; 0 of none.
    """
    if not value:
        return 0
    content = value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")
    if len(content) == 32:
        with suppress(ValueError):
            return int(content[:16], 16) ^ int(content[16:], 16)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def value_hashes(values: Iterable[Any]) -> NDArray[np.uint64]:
    """Return the hash of each value."""
    return np.fromiter(map(value_hash, values), np.uint64)
