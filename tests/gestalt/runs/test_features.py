"""Rows come back from a cache's file as they were written."""

import numpy as np
import pytest
import torch

from gestalt.runs.features import as_stored


def test_values_beyond_float16_are_refused():
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="float16 cannot hold; choose --dtype float32"),
    ):
        as_stored(torch.tensor([1e6]), stored="float16")
