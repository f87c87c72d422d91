"""Rows come back from a cache's file as they were written."""

import zlib

import numpy as np
import pytest
import torch

from gestalt.building.features import CachedImages
from gestalt.commands.features import as_stored
from gestalt.features.key import Description


def test_values_beyond_float16_are_refused():
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="float16 cannot hold; choose --dtype float32"),
    ):
        as_stored(torch.tensor([1e6]), stored="float16")


def test_a_damaged_row_of_features_is_refused(tmp_path):
    rows = np.arange(1, 4097, dtype="f4").reshape(4, 1024)
    np.save(tmp_path / "images.npy", rows)
    np.save(tmp_path / "sums.npy", np.array([zlib.crc32(row.tobytes()) for row in rows]))
    described = Description({}, "float32", [1024], "float32")
    cache = CachedImages(described, tmp_path, side=8, crops=2, pairs=2)
    assert cache.read([(0, 1), (3, 1)]).equal(torch.tensor(rows[[1, 3]]))
    with (tmp_path / "images.npy").open("r+b") as file:
        file.seek(-4096, 2)
        file.write(bytes(4096))
    assert cache.read([(0, 1)]).equal(torch.tensor(rows[[1]]))
    with pytest.raises(ValueError, match=r"images\.npy: row 3 is damaged"):
        cache.read([(0, 1), (3, 1)])
