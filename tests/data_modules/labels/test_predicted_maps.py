"""Label maps of other systems: matching files to images, meanings of values, and refusals in one
line.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.data_modules.labels.masks import ValueMap
from gestalt.data_modules.labels.predicted_maps import (
    WithPredictions,
    colour_map,
    find_maps,
    group_map,
    nearest_pixels,
    read_map,
    value_map,
)
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.pictures import VOID, class_colours
from gestalt.support.label_values import IGNORE
from tests.data_modules.fakes.drawing import save_mask
from tests.data_modules.fakes.masks import draw_voc
from tests.data_modules.fakes.table import SEGMENTED
from tests.data_modules.files import opened_set

NAMES = ("sky", "sea", "ship")
HERE = Path("map.png")


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_map_is_found_by_the_images_name_in_any_sub_folder(tmp_path):
    touched(tmp_path, "b.png", "city/a.npy", "a.txt", ".c.png", "notes.json")
    assert find_maps(tmp_path, ["a", "b"]) == [tmp_path / "city/a.npy", tmp_path / "b.png"]
    assert find_maps(tmp_path, ["city/a"]) == [tmp_path / "city/a.npy"]


def test_missing_maps_are_counted_and_the_first_are_named(tmp_path):
    touched(tmp_path, "c.png")
    with pytest.raises(
        ValueError, match=r"no label map for 4 of 5 images \(a, b, d, \.\.\.\); add a\.png or \.npy"
    ):
        find_maps(tmp_path, list("abcde"))


@pytest.mark.parametrize(
    ("values", "stored", "classes"),
    [
        ("index", [0, 1, 2, 255], [0, 1, 2, IGNORE]),
        ("reduce_zero_label", [0, 1, 3, 255], [IGNORE, 0, 2, IGNORE]),
        ("truth", [7, 9, 8, 0], [0, 1, 2, IGNORE]),
        (
            {300: "ship", 4: "sky", 5: "sky", 6: None},
            [300, 4, 5, 6, 255],
            [2, 0, 0, IGNORE, IGNORE],
        ),
        ({255: "sea"}, [255], [1]),
    ],
)
def test_each_way_of_numbering_classes_is_mapped(values, stored, classes):
    known = value_map(values, names=NAMES, truth=ValueMap({7: 0, 9: 1, 8: 2}, ignored=[0], count=3))
    assert known(np.array([stored]), path=HERE).tolist() == [classes]


@pytest.mark.parametrize("background", [None, 0])
def test_a_painted_map_is_read_by_its_colours(background):
    colours = class_colours(3, background=background)
    pixels = np.array([[colours[2], colours[0], colours[1], VOID]], dtype=np.uint8)
    painted = colour_map(colours, unnamed=[VOID])
    assert painted(pixels, path=HERE).tolist() == [[2, 0, 1, IGNORE]]
    with pytest.raises(ValueError, match=r"map\.png holds the colour #010203, which no class has"):
        painted(np.array([[[1, 2, 3]]], dtype=np.uint8), path=HERE)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_a_map_may_be_an_array_or_a_png_of_8_or_16_bits(dtype, tmp_path):
    values = np.array([[0, 3], [200, 255 if dtype == "uint8" else 40_000]], dtype=dtype)
    np.save(tmp_path / "a.npy", values)
    save_mask(tmp_path / "a.png", values)
    assert np.array_equal(read_map(tmp_path / "a.npy"), values)
    assert np.array_equal(read_map(tmp_path / "a.png"), values)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[-1]]), "holds -1; the values of a label map are 0 to 65535"),
        (np.zeros((2, 2)), r"holds float64 \(2, 2\); a label map is \(H, W\) integers"),
    ],
)
def test_an_unsuitable_array_is_refused_in_one_line(array, message, tmp_path):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=message) as error:
        read_map(tmp_path / "a.npy")
    assert "a.npy" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_array_is_refused_in_one_line(tmp_path):
    whole, archive = BytesIO(), BytesIO()
    np.save(whole, np.zeros((2, 2), np.uint8))
    np.savez(archive, np.zeros((2, 2), np.uint8))
    content = whole.getvalue()
    huge = content.replace(b"(2, 2), }" + b" " * 15, b"(2000000000, 2000000), }")
    for damaged in (archive.getvalue(), content[:40], content[:-1], huge):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^[^\n]*a\.npy: not a NumPy array[^\n]*$"):
            read_map(tmp_path / "a.npy")


def test_every_value_of_a_map_of_groups_is_a_group_and_they_are_numbered_in_order():
    assert group_map(np.array([[9, 255], [40_000, 9]]), path=HERE).tolist() == [[0, 1], [2, 0]]
    assert group_map(np.arange(255)[None], path=HERE).max() == 254
    with pytest.raises(ValueError, match=r"map\.png holds 256 groups; at most 255 are supported"):
        group_map(np.arange(256)[None], path=HERE)


def test_scaling_a_map_takes_the_pixels_with_the_nearest_centres():
    values = np.arange(6).reshape(2, 3)
    assert np.array_equal(nearest_pixels(values, size=(4, 6)), values.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(nearest_pixels(values.repeat(3, 0).repeat(3, 1), size=(2, 3)), values)


@pytest.mark.parametrize("name", [*SEGMENTED, "scenes"])
def test_every_benchmark_of_class_maps_lists_its_images_and_takes_maps_of_class_indices(
    name, tmp_path
):
    if name in SEGMENTED:
        SEGMENTED[name].draw(tmp_path)
    row, root = BENCHMARKS[name], tmp_path if name in SEGMENTED else None
    images = opened_set(row.image_set, root, row.label_set, limit=2)
    samples = [images.sample(index) for index in range(2)]
    assert [sample["name"] for sample in samples] == images.names
    for sample in samples:
        save_mask(tmp_path / f"maps/{sample['name']}.png", sample["labels"][row.label_set].numpy())
    known = value_map("index", names=images.label_sets[row.label_set].names)
    predicted = WithPredictions(images, find_maps(tmp_path / "maps", images.names), values=known)
    for index, sample in enumerate(samples):
        assert torch.equal(predicted.sample(index)["prediction"], sample["labels"][row.label_set])


def test_a_map_of_another_size_than_its_label_is_refused_unless_resizing_is_on(tmp_path):
    draw_voc(tmp_path)
    images = opened_set("pascal_voc", tmp_path, "voc20")
    for name in images.names:
        save_mask(tmp_path / f"maps/{name}.png", np.zeros((4, 5), dtype=np.uint8))
    files = find_maps(tmp_path / "maps", images.names)
    known = value_map("index", names=images.label_sets["voc20"].names)
    with pytest.raises(
        ValueError,
        match=r"png is 5x4, its truth 45x40; write it at that size, or choose --resize nearest",
    ):
        WithPredictions(images, files, values=known).sample(0)
    sample = WithPredictions(images, files, values=known, resize=True).sample(0)
    assert sample["prediction"].shape == sample["labels"]["voc20"].shape
