"""Sampling: which samples make which batch, on any rank, after any number of steps.  B batch over all ranks, W ranks."""

import math
from collections.abc import Callable, Iterator

from torch.utils.data import Sampler

from data_modules.batches import PADDING
from data_modules.order import EndlessOrder, Key


def _first_step() -> int:
    return 0


class ShuffledBatches(Sampler[list[Key]]):
    """This rank's training batches from any step on: the position is one integer, so a resumed run sees what an uninterrupted one does.

    Step s holds the positions [s B, (s + 1) B) of an endless order. The trainer's epoch is as many steps as the samples fill; what is
    left over, less than a batch, opens the next one, so that no sample is lost. Rank r takes the r-th of W equal parts of every batch,
    so W ranks together see the batches of one.
    """

    def __init__(
        self,
        order: EndlessOrder,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        step: Callable[[], int] = _first_step,
        steps_per_epoch: int | None = None,
    ) -> None:
        """Take the order, and ``step``, which is asked for the number of finished steps each time iteration starts.

        Args:
            order: of all samples.
            batch_size: pairs a step, over all ranks.
            rank: this process, from 0.
            world_size: number of processes.
            step: number of finished steps.
            steps_per_epoch: end the trainer's epochs early; the order goes on where they ended. None for all that the samples fill.

        Raises:
            ValueError: fewer pairs than a batch, a batch that ranks cannot share equally, or more steps an epoch than there are.
        """
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch size {batch_size} cannot be shared by {world_size} ranks: make it a multiple of {world_size}")
        if order.length < batch_size:
            raise ValueError(f"batch size {batch_size} is more than the {order.length} pairs of the source: lower it, or raise data.limit")
        self._whole = order.length // batch_size
        if steps_per_epoch is not None and not 1 <= steps_per_epoch <= self._whole:
            raise ValueError(
                f"{steps_per_epoch} steps an epoch were asked for; {order.length} pairs in batches of {batch_size} give 1 to {self._whole}"
            )
        self._order = order
        self._batch_size = batch_size
        self._rank = rank
        self._share = batch_size // world_size
        self._step = step
        self.steps_per_epoch = self._whole if steps_per_epoch is None else steps_per_epoch

    def __len__(self) -> int:
        """Batches in a whole pass over the source, wherever iteration starts or ends: Lightning counts from it."""
        return self._whole

    def __iter__(self) -> Iterator[list[Key]]:
        """This rank's batches from the current step to the end of the trainer's epoch."""
        start = self._step()
        for step in range(start, (start // self.steps_per_epoch + 1) * self.steps_per_epoch):
            first = step * self._batch_size + self._rank * self._share
            yield self._order.keys(first, first + self._share)


class DealtBatches(Sampler[list[int]]):
    """Whole validation batches dealt to ranks in turn, so that a batch holds the same samples for any number of ranks."""

    def __init__(self, length: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """Take the set's length, the size of a batch on one rank, and this rank's place.

        Raises:
            ValueError: batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"evaluation batch size is {batch_size}; it must be at least 1")
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Batches a rank, the same on all."""
        return math.ceil(self.length / (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches; past the end of the set, PADDING, which the data set turns into a sample that is all ignore."""
        for step in range(len(self)):
            start = (step * self.world_size + self.rank) * self.batch_size
            yield [index if index < self.length else PADDING for index in range(start, start + self.batch_size)]
