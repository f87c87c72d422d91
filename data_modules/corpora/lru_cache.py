"""A cache of what a process read or drew last."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values by key, up to a total size.  It is empty in a copy; forked processes begin with the
    values of their parent, which must not share a position in a file.

    Args:
        limit: largest total size; the newest value is kept whatever its size.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, read: Callable[[], tuple[Value, int]]) -> Value:
        """Return the value of a key; ``read`` makes it, with its size, if it is not cached."""
        if key not in self._kept:
            self._kept[key] = read()
            self._size += self._kept[key][1]
            while len(self._kept) > 1 and self._size > self._limit:
                self._size -= self._kept.popitem(last=False)[1][1]
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy the limit without the values."""
        return LRUCache, (self._limit,)
