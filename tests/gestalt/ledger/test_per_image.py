"""The contribution of each image is written once per set, for any number of callbacks that scored it."""

import hashlib

import numpy as np
import pytest

from gestalt.evaluation.predictions import read_arrays
from gestalt.ledger.per_image import write_per_image


class Scorer:
    def __init__(self, **arrays):
        self.arrays = {key.replace("__", "/"): np.array(value) for key, value in arrays.items()}

    def per_image(self):
        return self.arrays


def test_callbacks_of_one_set_share_its_file(tmp_path):
    scorers = [Scorer(scenes__counts=[[1, 2]]), Scorer(scenes__jaccard=[0.5, np.nan]), Scorer(voc__counts=[3])]
    said = write_per_image(tmp_path / "run", scorers)
    assert {name: one["file"] for name, one in said.items()} == {"scenes": "run/scenes.npz", "voc": "run/voc.npz"}
    assert said["voc"]["sha256"] == hashlib.sha256((tmp_path / "run" / "voc.npz").read_bytes()).hexdigest()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"scenes.npz", "voc.npz"}
    arrays = read_arrays(tmp_path / "run" / "scenes.npz")
    assert set(arrays) == {"counts", "jaccard"}
    assert arrays["counts"].tolist() == [[1, 2]]
    np.testing.assert_array_equal(arrays["jaccard"], [0.5, np.nan])


def test_two_callbacks_may_not_give_the_same_array(tmp_path):
    with pytest.raises(AssertionError, match="two callbacks give scenes/counts"):
        write_per_image(tmp_path, [Scorer(scenes__counts=[1]), Scorer(scenes__counts=[2])])


def test_equal_arrays_are_written_as_equal_records(tmp_path):
    said = [write_per_image(tmp_path / folder / "run", [Scorer(scenes__counts=[1, 2])]) for folder in ("one", "other")]
    assert said[0] == said[1]


def test_without_scores_there_is_no_file(tmp_path):
    write_per_image(tmp_path / "run", [Scorer()])
    assert not (tmp_path / "run").exists()
    assert read_arrays(tmp_path / "run" / "scenes.npz") == {}
