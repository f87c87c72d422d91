"""LRUCache: what was read last is kept, up to a number of bytes, by each process for itself."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """Values by key, the last used ones; a process that was forked begins with none, since open files cannot be shared."""

    def __init__(self, limit: int) -> None:
        """Take the number of bytes that may be kept; one value is always kept, whatever its size."""
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._process = os.getpid()

    def get(self, key: Hashable, read: Callable[[], tuple[Value, int]]) -> Value:
        """The value of a key; ``read`` returns it with its size in bytes where it is not kept."""
        if self._process != os.getpid():
            self._kept, self._process = OrderedDict(), os.getpid()
        if key not in self._kept:
            self._kept[key] = read()
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def __getstate__(self) -> dict[str, int]:
        """A copy in another process begins with none."""
        return {"limit": self._limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        """As ``__getstate__`` says."""
        self.__init__(state["limit"])  # type: ignore[misc]
