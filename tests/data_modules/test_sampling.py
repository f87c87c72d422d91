"""Batches: a training stream and validation batches that are the same for any number of ranks."""

from itertools import chain

import pytest

from gestalt.data_modules.order import DealtBatches, EndlessOrder, ShuffledBatches
from gestalt.support.label_values import PADDING

LENGTH, BATCH = 29, 6  # 4 steps an epoch, 5 samples left over


def stream(steps, *, rank=0, world_size=1):
    """The batches of so many steps, epoch after epoch, as a trainer would read them."""
    read = []
    order = EndlessOrder([LENGTH], seed=0, window=1)
    batches = ShuffledBatches(
        order, batch_size=BATCH, rank=rank, world_size=world_size, step=lambda: len(read)
    )
    while len(read) < steps:
        read += batches
    return read[:steps]


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_all_ranks_together_read_the_same_stream_as_one_process(world_size):
    ranks = [stream(9, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [[*chain(*parts)] for parts in zip(*ranks, strict=True)] == stream(9)


@pytest.mark.parametrize(("ranks", "batches"), [(1, 29), (2, 29), (3, 58)])
def test_the_remainder_of_an_epoch_starts_the_next_without_loss_or_repetition(ranks, batches):
    parts = [stream(batches, rank=rank, world_size=ranks) for rank in range(ranks)]
    keys = [key for step in zip(*parts, strict=True) for part in step for key in part]
    assert sorted(keys) == [
        (epoch, index) for epoch in range(batches * BATCH // LENGTH) for index in range(LENGTH)
    ]
    assert [epoch for epoch, _ in keys] == sorted(epoch for epoch, _ in keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 6, "world_size": 4}, "multiple of 4"),
        ({"batch_size": 30}, "more than the 29 pairs"),
    ],
)
def test_impossible_batch_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShuffledBatches(EndlessOrder([LENGTH], seed=0, window=1), **arguments)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_validation_sample_is_dealt_once_and_the_rest_is_padding(world_size):
    ranks = [
        list(DealtBatches(29, batch_size=4, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    dealt = [index for batches in ranks for batch in batches for index in batch]
    assert sorted(index for index in dealt if index != PADDING) == list(range(29))
    assert {len(batch) for batches in ranks for batch in batches} == {4}
    assert len({len(batches) for batches in ranks}) == 1
    assert len(ranks[0]) == len(DealtBatches(29, batch_size=4, world_size=world_size))


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_a_validation_batch_holds_the_same_samples_for_any_number_of_ranks(world_size):
    alone = list(DealtBatches(29, batch_size=4))
    dealt = [
        batch
        for rank in range(world_size)
        for batch in DealtBatches(29, batch_size=4, rank=rank, world_size=world_size)
    ]
    assert all(batch in dealt for batch in alone)
    assert all(set(batch) == {PADDING} for batch in dealt if batch not in alone)
