"""PASCAL VOC in its official layout, drawn small."""

import numpy as np
import pytest

from gestalt.data_modules.labels.class_tables import read_tables
from tests.data_modules.fakes.drawing import painted_values
from tests.data_modules.fakes.masks import draw_voc
from tests.data_modules.files import opened_set

FOLDER = "VOCdevkit/VOC2012"


@pytest.fixture
def root(tmp_path):
    draw_voc(tmp_path)
    return tmp_path


@pytest.mark.parametrize("inner", ["", "VOCdevkit", FOLDER])
def test_the_list_file_decides_what_is_read_and_in_which_order(root, inner):
    images = opened_set("pascal_voc", root / inner)
    assert [images.sample(index)["name"] for index in range(len(images))] == [
        "2007_000002",
        "2007_000000",
        "2007_000001",
    ]


def test_objects_are_read_if_the_folder_has_them_and_otherwise_the_reason_is_given(root):
    images = opened_set("pascal_voc", root)
    assert images.no_instances is None
    for sample in map(images.sample, range(3)):
        values = painted_values(sample["image"])
        assert np.array_equal(sample["instance"], (values == 4) + 2 * (values == 20))
    (root / FOLDER / "SegmentationObject").rename(root / "elsewhere")
    images = opened_set("pascal_voc", root)
    assert "instance" not in images.sample(0)
    assert "VOC2012/SegmentationObject" in images.no_instances


def test_the_phrases_of_the_classes_stay_as_they_are():
    digests = {name: table.labels.digest() for name, table in read_tables("pascal_voc").items()}
    assert digests == {"voc21": "9691ec10ca90cc25", "voc20": "acbec8f3f58a81a8"}
