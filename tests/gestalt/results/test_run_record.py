"""The files of a run or an evaluation: its arrays, once for each set."""

import hashlib
from pathlib import Path

import numpy as np

from gestalt.results.result import Result
from gestalt.results.run_record import print_result, write_per_image
from gestalt.results.text import NONE
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


def test_the_best_checkpoint_s_value_is_printed_beside_the_metric_that_chose_it_alone(capsys):
    metrics = {"scenes/miou": 0.5, "scenes/pixel_accuracy": 0.6, "voc/miou": 0.7}
    entries = [
        {"set": name, "measure": "segmentation", "metric_keys": keys}
        for name, keys in (("scenes", [*metrics][:2]), ("voc", [*metrics][2:]))
    ]
    best = {"checkpoint": "best.ckpt", "monitor": "scenes/miou", "value": 0.75}
    record = {"benchmarks": entries, "metrics": metrics, "arrays": {}, "best": best}
    print_result(Result("a run", Path("result.json"), record))
    rows = [row.split("|") for row in capsys.readouterr().out.splitlines() if "|" in row]
    last = {first.strip(): value.strip() for _, first, *_, value, _ in rows}
    assert [last[key] for key in ("metric", *metrics)] == ["best.ckpt", "0.7500", NONE, NONE]
