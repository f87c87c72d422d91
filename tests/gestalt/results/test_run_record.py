"""The files of a run or an evaluation: its arrays, once for each set, and the closing printout."""

import hashlib

import numpy as np

from gestalt.results.run_record import print_metrics, write_per_image
from gestalt.support.arrays import read_arrays


def test_only_the_best_and_worst_five_of_many_classes_are_printed(capsys):
    print_metrics({f"voc/iou/{number}": 0.1 for number in range(21)}, images={})
    assert len(capsys.readouterr().out.splitlines()) == 21
    metrics = {"ade20k/miou": 0.5} | {f"ade20k/iou/{number}": number / 150 for number in range(150)}
    print_metrics(metrics, images={"ade20k": "all 2000 images"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["ade20k: all 2000 images", "ade20k/miou 0.5000"]
    numbers = [int(line.split()[0].rpartition("/")[2]) for line in lines[2:-1]]
    assert numbers == [*range(5), *range(145, 150)]
    assert lines[-1] == "(IoU of 140 further classes: in the record)"


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
