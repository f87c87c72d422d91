"""The images of a set that are drawn: their choice, and their gathering on the first rank.  H W pixels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, distributed

from gestalt.evaluation.predictions import Kept


class Shown(NamedTuple):
    """An image to draw, on the CPU.

    Attributes:
        sample_id: its index in the set.
        name: its title.
        image: (3, H, W) uint8.
        prediction: (H, W) integers, or (n, H, W) bool for groups that overlap.
        label: (H, W) integers.
    """

    sample_id: int
    name: str
    image: Tensor
    prediction: Tensor
    label: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Any], position: int, *, prediction: Tensor, label: Tensor) -> "Shown":
        """Take an image of a batch, with its prediction and label."""
        image, prediction, label = batch["image"][position].cpu(), prediction.cpu(), label.cpu()
        return cls(int(batch["sample_id"][position]), batch["name"][position], image=image, prediction=prediction, label=label)

    def kept(self) -> Kept:
        """Return the image as NumPy arrays, to be written."""
        return Kept(self.name, self.image.numpy(), prediction=self.prediction.numpy(), label=self.label.numpy())


def spread(length: int, *, count: int) -> tuple[int, ...]:
    """Return indices spread evenly over a set: the middle of each of ``count`` equal stretches, or fewer of a smaller set."""
    return tuple(sorted({(2 * k + 1) * length // (2 * count) for k in range(count)}))


def gathered_on_first(items: list[Shown]) -> list[Shown]:
    """Return the items of all ranks on the first rank, and an empty list on the others.  Every rank must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return items
    rank = distributed.get_rank()
    by_rank: list[Any] | None = [None] * distributed.get_world_size() if rank == 0 else None
    distributed.gather_object(items, by_rank, dst=0)
    return [] if by_rank is None else [item for items_of_rank in by_rank for item in items_of_rank]
