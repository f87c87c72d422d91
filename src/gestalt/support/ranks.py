"""Gather rows from all ranks, with and without a gradient.  B rows on this rank, G rows on all
ranks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, distributed


class GatherRows(torch.autograd.Function):
    """Differentiable all-gather of rows, in rank order.  The gradient of a row is summed over
    ranks.

    ``torch.distributed.all_gather`` cuts the graph, so that a rank's rows would get no gradient
    from the other ranks' losses. torch's own differentiable gathers are deprecated or renamed
    between the supported versions.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        """Gather rows: (B, ...) on each rank to (G, ...) on every rank."""
        return gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Sum gradients over ranks: (G, ...) on each rank to this rank's (B, ...)."""
        total = gradients[0].contiguous()
        world = distributed.get_world_size()
        return sum_over_ranks(total).chunk(world)[distributed.get_rank()]


gather_with_gradient: Callable[[Tensor], Tensor] = GatherRows.apply


def check_rows(rows: int, *, device: torch.device) -> None:
    """Check that every rank has the same number of rows.  An accelerator checks on the device,
    because reading the numbers would wait for it.

    Raises:
        ValueError: the numbers differ (CPU).
    """
    sizes = gather_rows(torch.full((1,), rows, device=device))
    if device.type != "cpu":
        torch._assert_async((sizes == rows).all(), "loss: the ranks hold different numbers of rows")
    elif len(set(sizes.tolist())) > 1:
        raise ValueError(
            f"loss: the ranks hold {sizes.tolist()} rows, in rank order; every rank must hold the "
            "same number. Drop the last, incomplete batch; mark rows that are not pairs as not "
            "valid instead of removing them"
        )


def gather_rows(rows: Tensor) -> Tensor:
    """Gather rows of all ranks, in rank order, without a gradient.  Every rank must hold the same
    number.
    """
    parts = [
        torch.empty_like(rows, memory_format=torch.contiguous_format)
        for _ in range(distributed.get_world_size())
    ]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def world_size() -> int:
    """Return the number of ranks; 1 where nothing is distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copy the values of tensors on the first rank to all ranks, in place; all ranks must call it
    together.
    """
    if world_size() == 1:
        return
    for tensor in tensors:
        values = tensor.contiguous()  # broadcasting needs contiguous memory
        distributed.broadcast(values, 0)
        tensor.copy_(values)


def objects_of_ranks(value: Any) -> list[Any]:
    """Return the objects of all ranks, in rank order.  All ranks must call this together."""
    objects = [value] * world_size()
    if len(objects) > 1:
        distributed.all_gather_object(objects, value)
    return objects


def objects_on_first(value: Any) -> list[Any]:
    """Return an object of each rank, in rank order, on the first rank, and an empty list on the
    others; all ranks must call it together.
    """
    if world_size() == 1:
        return [value]
    objects = [None] * world_size() if distributed.get_rank() == 0 else None
    distributed.gather_object(value, objects)
    return objects or []


def shared_by_ranks(items: Sequence[Any], compute: Callable[[Any], Any]) -> list[Any]:
    """Compute a result for each item, with the items divided among the ranks.  Returns all results,
    in order, on every rank.  All ranks must call this together.
    """
    world = world_size()
    rank = distributed.get_rank() if world > 1 else 0
    results: list[Any] = [None] * len(items)
    for first, part in enumerate(objects_of_ranks([compute(item) for item in items[rank::world]])):
        results[first::world] = part
    return results


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum values over ranks, without a gradient; in one process they are returned unchanged."""
    values = values.detach()
    if world_size() > 1:
        values = values.clone()  # autograd may share the tensor
        distributed.all_reduce(values)
    return values


def logsumexp_over_ranks(values: Tensor) -> Tensor:
    """Return the logsumexp of values, (N,), over ranks, with a gradient."""
    if world_size() == 1:
        return values
    return gather_with_gradient(values.unsqueeze(0)).logsumexp(dim=0)


def rank_share(weight: Tensor) -> Tensor:
    """Return the factor that turns a rank's weighted sum into its share of the mean over all ranks,
    whose gradients DDP averages.

    Args:
        weight: the sum of this rank's weights, a scalar.
    """
    return world_size() / sum_over_ranks(weight).clamp_min(torch.finfo(weight.dtype).tiny)
