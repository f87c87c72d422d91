"""Rows come back from a cache's file as they were written."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.building.features import CachedImages
from gestalt.commands.features import as_stored
from gestalt.features.key import IMAGES, Description


@pytest.mark.parametrize(
    ("stored", "computed"),
    [("float32", "float32"), ("float32", "bfloat16"), ("float16", "float32")],
)
def test_rows_come_back_in_any_order_in_the_format_in_which_they_were_computed(
    stored: str, computed: str, tmp_path: Path
) -> None:
    content = torch.randn(8, 3, 2, generator=torch.Generator().manual_seed(0)).to(
        getattr(torch, computed)
    )
    np.save(tmp_path / IMAGES, as_stored(content, stored=stored))
    order = [7, 0, 3, 3, 5]
    cache = Description({}, stored, [3, 2], computed)
    reader = CachedImages(cache, tmp_path, side=8, crops=2, pairs=4)
    keys = [divmod(row, 4) for row in order]
    rows = reader.read(keys)
    assert rows.dtype == content.dtype
    torch.testing.assert_close(
        rows, content[order], rtol=0, atol=0 if stored == "float32" else 2e-3
    )
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read(keys), rows)
    assert len(pickle.dumps(reader)) < 1000


def test_values_beyond_float16_are_refused() -> None:
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="float16 cannot hold; choose --dtype float32"),
    ):
        as_stored(torch.tensor([1e6]), stored="float16")
