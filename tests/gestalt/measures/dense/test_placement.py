"""Windows cover an image, and the label's pixels are means of cells."""

from itertools import pairwise

import pytest
import torch

from gestalt.measures.dense.placement import Axis, canvas_matrix, label_bands, window_starts


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [(448, 448, 224), (597, 448, 224), (100, 224, 112), (561, 224, 112)],
)
def test_windows_cover_every_pixel_and_stay_inside(size, window, stride):
    starts = window_starts(size, window=window, stride=stride)
    covered = {pixel for start in starts for pixel in range(start, min(start + window, size))}
    assert covered == set(range(size))
    assert starts[0] == 0
    assert max(starts) + min(window, size) == size
    assert all(later - earlier <= stride for earlier, later in pairwise(starts))


@pytest.mark.parametrize("upsample", ["bilinear", "bilinear_aligned", "nearest"])
def test_a_pixel_is_a_mean_of_its_cells(upsample):
    axis = Axis(53, canvas=73, starts=(0, 16, 25), side=48, cells=3, upsample=upsample)
    matrix = canvas_matrix(axis)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(73, dtype=torch.float64))
    for band in label_bands(axis, 20, torch.device("cpu")):
        torch.testing.assert_close(band.weights.sum(dim=1), torch.ones(len(band.weights)))
