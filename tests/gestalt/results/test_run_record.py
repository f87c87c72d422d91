"""The files of a run or an evaluation: its arrays, once for each set."""

import hashlib

import numpy as np

from gestalt.results.run_record import write_per_image
from gestalt.support.arrays import read_arrays


class Scorer:
    def __init__(self, **arrays):
        self.arrays = {key.replace("__", "/"): np.array(value) for key, value in arrays.items()}

    def per_image(self):
        return self.arrays


def test_callbacks_of_one_set_share_its_file(tmp_path):
    scorers = [
        Scorer(scenes__counts=[[1, 2]]),
        Scorer(scenes__jaccard=[0.5, np.nan]),
        Scorer(voc__counts=[3]),
    ]
    said = write_per_image(tmp_path / "run", scorers)
    assert {name: one["file"] for name, one in said.items()} == {
        "scenes": "run/scenes.npz",
        "voc": "run/voc.npz",
    }
    assert (
        said["voc"]["sha256"]
        == hashlib.sha256((tmp_path / "run" / "voc.npz").read_bytes()).hexdigest()
    )
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"scenes.npz", "voc.npz"}
    arrays = read_arrays(tmp_path / "run" / "scenes.npz")
    assert set(arrays) == {"counts", "jaccard"}
    assert arrays["counts"].tolist() == [[1, 2]]
    np.testing.assert_array_equal(arrays["jaccard"], [0.5, np.nan])
