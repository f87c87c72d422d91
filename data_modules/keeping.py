"""Batches that are the same at each pass, kept in memory after the first one if they fit."""

import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

ROOM = 1 << 28
"""Bytes that a training process may keep validation batches in, of all its sets together (256 MiB): 2,600 scenes of 128 px."""


class Room:
    """Memory that is shared by the loaders of one process.

    Args:
        size: bytes.
    """

    def __init__(self, size: int = ROOM) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Reserve bytes; False, and nothing is reserved, if fewer are left."""
        taken = size <= self.left
        self.left -= size if taken else 0
        return taken


class KeptLoader(DataLoader[Any]):
    """A loader whose passes all have the same batches: after a whole pass it gives copies, if they fit.

    A batch is copied when it is kept, out of the memory shared with loading processes, and again whenever it is given, so that
    writing into it does not change another pass.

    Attributes:
        room: the memory to keep them in; None keeps nothing.
        kept: all batches of this rank; None before the first whole pass, and for good if they do not fit.
    """

    room: Room | None = None
    kept: list[Any] | None = None

    def __iter__(self) -> Any:
        """Return the batches."""
        if self.kept is not None:
            return map(copied, self.kept)
        batches = _closed(super().__iter__())
        return batches if self.room is None else self._keeping(batches, self.room)

    def _keeping(self, batches: Iterator[Any], room: Room) -> Iterator[Any]:
        """Yield the batches; a set that does not fit, or a pass that ends early, leaves nothing behind."""
        seen: list[Any] = []
        taken = 0
        try:
            for number in range(1, len(self) + 1):
                batch = next(batches)
                size = size_of(batch)
                if self.room is not None and room.take(size):
                    taken += size
                    seen.append(copied(batch))
                else:
                    self.room, seen = None, []
                    room.left += taken
                    taken = 0
                if number == len(self) == len(seen):  # here, since a reader that knows the length does not ask for a further batch
                    self.kept, taken = seen, 0
                    del batches  # its loading processes end
                yield batch
        finally:
            room.left += taken


def _closed(batches: Any) -> Iterator[Any]:
    """Yield the batches of a loader's pass, and end its loading processes with it.

    After an error, the traceback keeps the pass alive in a cycle of references: Python would end the processes only at its exit, and wait
    for each of them.
    """
    try:
        yield from batches
    finally:
        if hasattr(batches, "_shutdown_workers"):  # of a pass with loading processes
            batches._shutdown_workers()


def copied(value: Any) -> Any:
    """Copy tensors, and the dicts, lists and tuples around them."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return type(value)(map(copied, value)) if isinstance(value, list | tuple) else value


def size_of(value: Any) -> int:
    """Return the bytes of the tensors and strings in dicts, lists and tuples."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, str):
        return sys.getsizeof(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(size_of, items))
