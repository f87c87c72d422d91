"""Files of arrays."""

import numpy as np
import pytest

from gestalt.support.arrays import read_arrays
from tests.gestalt.encoders.test_state_dicts import RunsCode, refused


@pytest.mark.parametrize("fault", ["objects", "cut short", "garbage", "empty"])
def test_unreadable_arrays_are_refused_in_one_line(fault, tmp_path):
    path = tmp_path / "scenes.npz"
    np.savez_compressed(
        path,
        a=np.array([RunsCode(tmp_path / "ran")], dtype=object)
        if fault == "objects"
        else np.arange(9999),
    )
    content = path.read_bytes()
    path.write_bytes(
        {"objects": content, "cut short": content[:-40], "garbage": b"garbage" * 50, "empty": b""}[
            fault
        ]
    )
    line = refused(lambda: read_arrays(path), names="scenes.npz: the arrays cannot be read")
    assert "pickle" not in line
    assert not (tmp_path / "ran").exists()
