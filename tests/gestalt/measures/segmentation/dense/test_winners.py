"""First maximum along the first axis: equal to ``max``, with ties to the first, and with any
position names.
"""

import pytest
import torch

from gestalt.measures.segmentation.dense.winners import first_largest, tile_side


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
    assert first_largest(scores, torch.tensor([3, 8, 9]))[1].tolist() == [3, 8, 8, 8]


def test_the_tile_side_stays_positive_for_any_number_of_maps():
    assert [tile_side(torch.device("cpu"), maps=count) for count in (1, 171, 1_000_000)] == [
        128,
        64,
        16,
    ]
