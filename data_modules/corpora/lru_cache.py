"""A cache that drops the least recently used values, one in each process."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values by key, up to a total size.  It is empty in a forked process and in a copy, since open
    files cannot be shared.

    Args:
        limit: largest total size; the newest value is kept whatever its size.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._process = os.getpid()

    def get(self, key: Hashable, read: Callable[[], tuple[Value, int]]) -> Value:
        """Return the value of a key; ``read`` makes it, with its size, if it is not cached."""
        if self._process != os.getpid():
            self._kept, self._process = OrderedDict(), os.getpid()
        if key not in self._kept:
            self._kept[key] = read()
            while (
                len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._limit
            ):
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy the limit without the values."""
        return LRUCache, (self._limit,)
