"""PASCAL Context's annotation file to masks: run lengths, overlaps in file order, lists; and read
again as an image set.
"""

import json

import numpy as np
import pytest

from gestalt.data_modules.labels.context_masks import convert, run_length_mask, run_lengths
from tests.data_modules.fakes.drawing import save_photograph
from tests.data_modules.files import opened_set


def test_run_lengths_that_pycocotools_wrote_are_read():
    # pycocotools 2.0.11: encode
    small = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]], dtype=bool)
    assert run_lengths("11124N") == [1, 1, 1, 3, 5, 1]
    assert np.array_equal(run_length_mask({"size": [3, 4], "counts": "11124N"}), small)
    ring = box((40, 50), (3, 30), (5, 45)) & ~box((40, 50), (10, 20), (20, 25))
    counts = f"[6k0={28 * '0'}\\OM33MM33MM33MM33MM33a{39 * '0'}U6"
    assert np.array_equal(run_length_mask({"size": [40, 50], "counts": counts}), ring)


def box(shape, rows, columns):
    mask = np.zeros(shape, dtype=bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two validation images and one of training; in the first, a later monitor lies over a wall."""
    names = {"2008_000002": "val", "2008_000003": "train", "2008_000007": "val"}
    images = [
        {
            "image_id": int(name.replace("_", "")),
            "file_name": f"{name}.jpg",
            "phase": phase,
            "height": 20,
            "width": 30,
        }
        for name, phase in names.items()
    ]
    # all; the rows above 3; those from 5 to 12 in the columns from 4 to 9
    wall, wood, monitor = (440, "0hb0"), (458, "03a" + 59 * "0"), (427, "e27=0000000o<")
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "segmentation": {"size": [20, 30], "counts": counts},
        }
        for number, (image, (category, counts)) in enumerate(
            [(2008000002, wall), (2008000003, wood), (2008000002, monitor)]
        )
    ]
    for name in names:
        save_photograph(
            tmp_path / f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg",
            np.zeros((20, 30), dtype=np.int64),
        )
    (tmp_path / "trainval_merged.json").write_text(
        json.dumps({"images": images[::-1], "annos_segmentation": annotations})
    )
    return tmp_path


def test_converted_masks_and_lists_are_readable_by_the_image_set(folder):
    convert(folder / "trainval_merged.json", folder / "VOCdevkit/VOC2010")
    images = opened_set("pascal_context", folder)
    names = images.label_sets["context60"].names
    first, second = (images.sample(index)["labels"]["context60"] for index in range(2))
    assert images.sample(0)["name"] == "2008_000002"
    assert {names[value] for value in first.unique()} == {"tvmonitor", "wall"}
    assert np.array_equal(first.numpy() == names.index("tvmonitor"), box((20, 30), (5, 12), (4, 9)))
    assert second.eq(0).all()
    training = opened_set("pascal_context", folder, "context59", split="train")
    assert training.sample(0)["labels"]["context59"].unique().tolist() == [58, 255]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("category_id", 3, r"2008_000002\.jpg holds values \[3\]; it must hold 0, 2, 9, 18-19"),
        (
            "segmentation",
            {"size": [20, 31], "counts": "02b00`a0"},
            "annotation 0: its runs have 600",
        ),
    ],
)
def test_an_invalid_annotation_is_refused_by_name(folder, key, value, message):
    content = json.loads((folder / "trainval_merged.json").read_text())
    content["annos_segmentation"][0][key] = value
    (folder / "trainval_merged.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        convert(folder / "trainval_merged.json", folder / "VOCdevkit/VOC2010")
    assert not (folder / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt").exists()
