"""First maximum along the first axis: equal to ``max``, with ties to the first, and with any
position names; the total over all maps.
"""

import math

import pytest
import torch
from torch.nn import functional

from gestalt.measures.dense import winners
from gestalt.measures.dense.placement import Axis, label_bands
from gestalt.measures.dense.winners import (
    best_of,
    first_largest,
    tile_side,
    upsampled_argmax,
)


@pytest.mark.parametrize("count", [1, 2, 21, 400])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_first_largest_returns_the_first_of_equal_maxima(count, dtype):
    generator = torch.Generator().manual_seed(0)
    for scores in (
        torch.randn(count, 7, 9, generator=generator),
        torch.randint(3, (count, 7, 9), generator=generator),
    ):
        value, index = first_largest(scores.to(dtype))
        wanted = scores.to(dtype).max(dim=0)
        assert torch.equal(value, wanted.values)
        assert torch.equal(index, wanted.indices)


def test_first_largest_distinguishes_the_smallest_and_largest_differences():
    least = torch.finfo(torch.float32).smallest_normal
    scores = torch.tensor(
        [
            [-torch.inf, 0.0, -3e38, 1.0],
            [-torch.inf, least, 3e38, 1.0 + 2**-23],
            [-torch.inf, -0.0, -3e38, 1.0],
        ]
    )
    assert first_largest(scores)[1].tolist() == [0, 1, 1, 1]


def test_the_tile_side_stays_positive_for_any_number_of_maps():
    assert [tile_side(torch.device("cpu"), maps=count) for count in (1, 171, 1_000_000)] == [
        128,
        64,
        16,
    ]


def test_a_map_of_zeros_that_cannot_win_still_counts_in_the_total():
    axis = Axis(5, canvas=4, starts=(0,), side=4, cells=2, upsample="bilinear")
    bands = label_bands(axis, 3, torch.device("cpu"))
    maps = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    total = best_of(maps, bands, bands, scale=2.0).total
    torch.testing.assert_close(total, torch.full((5, 5), math.log(math.exp(2) + 1)))


@pytest.mark.parametrize("at_once", [1, 700, 1400, 10**6])
def test_the_block_size_does_not_change_the_argmax(at_once, monkeypatch):
    monkeypatch.setattr(winners, "VALUES_AT_ONCE", at_once)
    maps = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    maps[4] = maps[2]  # a tie goes to the first, across blocks too
    index = upsampled_argmax(maps, size=(23, 31))
    wide = functional.interpolate(maps[None], size=(23, 31), mode="bilinear", align_corners=False)[
        0
    ]
    assert torch.equal(index, wide.max(dim=0).indices)
    assert 4 not in index
