"""PASCAL VOC in its official layout: drawn small, and a real folder of the same layout where it is
there.
"""

import numpy as np
import pytest
import torch

from gestalt.data_modules.image_sets import open_image_set
from gestalt.data_modules.labels.label_tables import read_tables
from tests.data_modules.fakes.drawing import painted_values
from tests.data_modules.fakes.masks import SHAPES, draw_voc

FOLDER = "VOCdevkit/VOC2012"


@pytest.fixture
def root(tmp_path):
    draw_voc(tmp_path)
    return tmp_path


def open_val(root, *, split=None, limit=None, subset=True, label_sets=None):
    return open_image_set(
        "pascal_voc", root=str(root), split=split, limit=limit, subset=subset, label_sets=label_sets
    )


@pytest.mark.parametrize("inner", ["", "VOCdevkit", FOLDER])
def test_the_list_file_decides_what_is_read_and_in_which_order(root, inner):
    images = open_val(root / inner)
    assert [images.sample(index)["name"] for index in range(len(images))] == [
        "2007_000002",
        "2007_000000",
        "2007_000001",
    ]


def test_masks_are_the_stored_indices_at_native_size(root):
    images = open_val(root)
    for index, number in enumerate((2, 0, 1)):
        sample = images.sample(index)
        assert sample["image"].shape == (3, *SHAPES[number])
        voc21, voc20 = sample["labels"]["voc21"], sample["labels"]["voc20"]
        assert np.array_equal(voc21.numpy(), painted_values(sample["image"]))
        assert voc20.equal(
            torch.where((voc21 == 0) | (voc21 == 255), 255, voc21 - 1).to(torch.uint8)
        )
        assert sample["instance"].unique().tolist() == [0, 1, 2]
    tables = read_tables("pascal_voc")
    assert tables["voc20"].labels.names == tables["voc21"].labels.names[1:]


def test_objects_are_read_if_the_folder_has_them_and_otherwise_the_reason_is_given(root):
    assert open_val(root).no_instances is None
    (root / FOLDER / "SegmentationObject").rename(root / "elsewhere")
    images = open_val(root)
    assert "instance" not in images.sample(0)
    assert "VOC2012/SegmentationObject" in images.no_instances


def test_sixty_words_stand_for_twenty_one_classes():
    labels = read_tables("pascal_voc")["voc21"].labels
    words = [word for prompts in labels.prompts for word in prompts]
    assert (len(labels.names), len(words), len(set(words)), len(labels.prompts[0])) == (
        21,
        60,
        60,
        40,
    )
    assert [labels.prompts[number] for number in (11, 16, 20)] == [
        ("table",),
        ("potted plant",),
        ("television monitor",),
    ]
    assert labels.background == 0


def test_a_real_folder_of_the_layout_is_read_whole(real_data):
    images = open_val(real_data / "voc_style")
    assert len(images) == 125
    assert (
        len(
            {
                int(value)
                for index in range(40)
                for value in images.sample(index)["labels"]["voc21"].unique()
            }
            & set(range(21))
        )
        > 10
    )
