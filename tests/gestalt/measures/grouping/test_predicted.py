"""Groups that lie in files: the score of the model that made them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from gestalt.data_modules.labels.predicted_maps import find_maps, group_map, read_map
from gestalt.evaluation.protocols import PredictionsProtocol
from gestalt.measures.grouping.callback import Grouping, GroupMaps
from gestalt.measures.label_maps import LabelMaps
from tests.gestalt.measures.grouping.test_callback import PROTOCOL, PaintedObjects
from tests.gestalt.measures.stage import LENGTH, validate
from tests.gestalt.painted import LABELS

pytestmark = [
    pytest.mark.slow,  # Lightning's import alone takes seven seconds
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # these sets are tiny
]


class PredictedObjects(Dataset[dict[str, Any]]):
    """The painted objects with the groups that lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.files = find_maps(folder, [f"p/{index}" for index in range(LENGTH)])

    def __getitem__(self, index: int) -> dict[str, Any]:
        path = self.files[max(index, 0)]
        return {**PaintedObjects()[index], "prediction": group_map(read_map(path), path=path)}


def predicted(folder: Path) -> GroupMaps:
    """One evaluation of the groups in a folder."""
    callback = GroupMaps(
        "painted", protocol=PredictionsProtocol(unnamed="group"), length=LENGTH, pictures=2
    )
    validate(callback, dataset=PredictedObjects(folder))
    return callback


def test_written_groups_score_exactly_what_the_model_scored(tmp_path):
    model = Grouping("painted", protocol=PROTOCOL, length=LENGTH)
    model.label_maps = LabelMaps(tmp_path, labels=LABELS)
    validate(model, dataset=PaintedObjects(), flaw="transposed")
    maps = predicted(tmp_path)
    ours, theirs = model.result(), maps.result()
    for key in ("jaccard", "jaccard_with_background", "jaccard_whole_image"):
        assert theirs["metrics"][f"painted/{key}"] == ours["metrics"][f"painted/{key}"]
    assert theirs["counts"]["model"] == ours["counts"]["model"]
    assert (theirs["objects"], theirs["images_with_objects"]) == (
        ours["objects"],
        ours["images_with_objects"],
    )
    for key, values in model.per_image().items():
        assert np.array_equal(values, maps.per_image()[key], equal_nan=True)
