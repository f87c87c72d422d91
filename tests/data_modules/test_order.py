"""The order: an endless stream of epochs, each a permutation by blocks, that may be entered
anywhere; and its batches, which are the same for any number of ranks.
"""

import tracemalloc
from itertools import chain

import numpy as np
import pytest

from gestalt.data_modules.order import DealtBatches, EndlessOrder, ShuffledBatches
from gestalt.support.label_values import PADDING

BLOCKS = [5, 0, 3, 8, 1, 4, 2]  # 23 samples, one shard without any
LENGTH = sum(BLOCKS)
SHARD = np.repeat(np.arange(len(BLOCKS)), BLOCKS)


def epochs(count, *, blocks=BLOCKS, seed=0, window=2):
    order = EndlessOrder(blocks, seed=seed, window=window)
    keys = order.keys(0, count * order.length)
    return [keys[epoch * order.length : (epoch + 1) * order.length] for epoch in range(count)]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 100])
def test_an_epoch_holds_every_sample_once(window):
    for number, epoch in enumerate(epochs(5, window=window)):
        assert sorted(epoch) == [(number, index) for index in range(LENGTH)]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_no_more_than_a_window_of_shards_is_mixed(window):
    for epoch in epochs(5, window=window):
        shards = [int(SHARD[index]) for _, index in epoch]
        spans = {
            shard: (shards.index(shard), len(shards) - 1 - shards[::-1].index(shard))
            for shard in set(shards)
        }
        for position in range(LENGTH):
            assert sum(first <= position <= last for first, last in spans.values()) <= window


@pytest.mark.parametrize("start", range(0, 3 * LENGTH, 7))
@pytest.mark.parametrize("size", [1, 6, 30])
def test_any_interval_of_the_order_can_be_read_independently_of_earlier_reads(start, size):
    order = EndlessOrder(BLOCKS, seed=0, window=2)
    whole = [key for epoch in epochs(5) for key in epoch]
    assert order.keys(start, start + size) == whole[start : start + size]
    assert order.keys(2, 9) == whole[2:9]


def test_epochs_and_seeds_shuffle_shards_and_samples_anew():
    seen = {
        tuple(index for _, index in epoch) for seed in range(3) for epoch in epochs(3, seed=seed)
    }
    assert len(seen) == 9
    firsts = {
        int(SHARD[epoch[0][1]]) for seed in range(10) for epoch in epochs(3, seed=seed, window=1)
    }
    assert firsts == {0, 2, 3, 4, 5, 6}


def test_a_window_of_the_same_shards_is_shuffled_anew_in_each_epoch():
    orders = {tuple(index for _, index in epoch) for epoch in epochs(8, blocks=[6, 6], window=2)}
    assert len(orders) == 8  # two shards alone have two orders


def test_windows_of_one_size_are_shuffled_differently():
    (epoch,) = epochs(1, blocks=[12] * 8, window=1)
    inside = np.array(epoch)[:, 1].reshape(8, 12) % 12
    assert len(np.unique(inside, axis=0)) == 8


def test_in_sequence_order_is_not_shuffled():
    order = EndlessOrder([3, 2], seed=0, window=2, in_sequence=True)
    assert order.keys(1, 12) == [
        *((0, i) for i in range(1, 5)),
        *((1, i) for i in range(5)),
        (2, 0),
        (2, 1),
    ]


def test_a_large_corpus_costs_the_memory_of_its_windows():
    order = EndlessOrder([8_825] * 1_243, seed=0, window=16)
    tracemalloc.start()
    for position in (0, 5_000_000, 10_900_000):
        assert len(order.keys(position, position + 8_192)) == 8_192
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20


SAMPLES, BATCH = 29, 6  # 4 steps an epoch, 5 samples left over


def stream(steps, *, rank=0, world_size=1):
    """The batches of so many steps, epoch after epoch, as a trainer would read them."""
    read = []
    order = EndlessOrder([SAMPLES], seed=0, window=1)
    batches = ShuffledBatches(
        order, BATCH, rank, world_size, step=lambda: len(read), steps_per_epoch=SAMPLES // BATCH
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
        (epoch, index) for epoch in range(batches * BATCH // SAMPLES) for index in range(SAMPLES)
    ]
    assert [epoch for epoch, _ in keys] == sorted(epoch for epoch, _ in keys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, 0, 4), "multiple of 4"),
        ((30, 0, 1), "more than the 29 pairs"),
    ],
)
def test_impossible_batch_options_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShuffledBatches(
            EndlessOrder([SAMPLES], seed=0, window=1), *arguments, step=int, steps_per_epoch=1
        )


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
