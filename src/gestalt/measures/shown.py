"""The images of a set that are drawn: their choice, and their gathering on the first rank."""

from typing import Any

from torch import distributed

from gestalt.evaluation.predictions import ScoredImage


def spread(length: int, *, count: int) -> tuple[int, ...]:
    """Return indices spread evenly over a set: the middle of each of ``count`` equal stretches, or
    fewer of a smaller set.
    """
    return tuple(sorted({(2 * k + 1) * length // (2 * count) for k in range(count)}))


def gathered_on_first(items: list[ScoredImage]) -> list[ScoredImage]:
    """Return the items of all ranks on the first rank, and an empty list on the others.  Every rank
    must call it.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    rank = distributed.get_rank()
    by_rank: list[Any] | None = [None] * distributed.get_world_size() if rank == 0 else None
    distributed.gather_object(items, by_rank, dst=0)
    return [] if by_rank is None else [item for items_of_rank in by_rank for item in items_of_rank]
