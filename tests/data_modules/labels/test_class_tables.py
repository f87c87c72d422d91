"""Features of single published sets: objects, converted maps, label sets from two archives, tables
against other people's.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.data_modules.image_sets import open_image_set
from gestalt.data_modules.labels import class_tables
from gestalt.data_modules.labels.class_tables import read_tables
from tests.data_modules.fakes.drawing import painted_values, save_mask
from tests.data_modules.fakes.masks import SHAPES, draw_ade, draw_cityscapes, draw_stuff
from tests.data_modules.fakes.panoptic import draw_panoptic
from tests.data_modules.files import opened_set, write_files

CONVERTED = {
    "coco": ("coco_object_81", "coco_stuff_171", "coco_27"),
    "cityscapes": ("cityscapes_19",),
}

COCO = {
    "images": [{"id": 7, "file_name": "2.jpg"}, {"id": 3, "file_name": "0.jpg"}],
    "annotations": [
        {"image_id": number, "caption": caption}
        for number, caption in [(3, "a dog ."), (7, "birds"), (3, "a dog")]
    ],
}
KARPATHY = {
    "images": [
        {
            "filename": f"{name}.jpg",
            "filepath": "val2014",
            "split": split,
            "sentences": [{"raw": text, "tokens": text.split()} for text in texts],
        }
        for name, split, texts in [
            (1, "val", ["a cat"]),
            (2, "test", ["birds"]),
            (0, "test", ["a dog .", "a dog"]),
        ]
    ],
}
CAPTIONED = {
    "coco_captions_val2017": ("coco/val2017", "coco/annotations/captions_val2017.json", COCO),
    "coco_captions_karpathy": ("coco/val2014", "coco/dataset_coco.json", KARPATHY),
    "flickr30k_karpathy": (
        "flickr30k/flickr30k-images",
        "flickr30k/dataset_flickr30k.json",
        KARPATHY,
    ),
}


@pytest.mark.parametrize("name", CAPTIONED)
def test_photographs_come_in_the_order_of_the_table_with_all_their_captions(name, tmp_path):
    place, table, content = CAPTIONED[name]
    write_files(tmp_path / place)
    (tmp_path / table).parent.mkdir(exist_ok=True)
    (tmp_path / table).write_text(json.dumps(content))
    images = opened_set(name, tmp_path)
    samples = [images.sample(index) for index in range(len(images))]
    assert [sample["name"] for sample in samples] == images.names == ["2", "0"]
    assert [sample["captions"] for sample in samples] == [["birds"], ["a dog .", "a dog"]]
    with pytest.raises(ValueError, match=r"has 2 images, the official split [15]000"):
        open_image_set(name, root=str(tmp_path), split=None, limit=None, subset=False)
    with pytest.raises(ValueError, match="label set 'voc21' is unknown; known: none"):
        opened_set(name, tmp_path, "voc21")
    (tmp_path / place / "0.jpg").unlink()
    with pytest.raises(ValueError, match=r"no file .*0\.jpg, which .*json requires"):
        opened_set(name, tmp_path)
    (tmp_path / table).write_text('{"images": [{"filename": "0.jpg", "split": "test"}]}')
    with pytest.raises(ValueError, match=rf"{(tmp_path / table).name} is not "):
        opened_set(name, tmp_path)


def numbered(sample, objects):
    """The instance map that a photograph's values ask for: value -> number, all others
    background.
    """
    values = painted_values(sample["image"])
    expected = np.zeros_like(values)
    for value, number in objects.items():
        expected[values == value] = number
    return expected


def test_objects_of_ade_are_read_from_the_green_channel(tmp_path):
    draw_ade(tmp_path)
    images = opened_set("ade20k", tmp_path)
    assert images.no_instances is None
    for sample in map(images.sample, range(3)):
        assert np.array_equal(sample["instance"].numpy(), numbered(sample, {90: 1, 150: 2}))
    shutil.rmtree(tmp_path / "ADEChallengeData2016/annotations_instance")
    assert "annotations_instance" in opened_set("ade20k", tmp_path).no_instances


def test_groups_and_unlabelled_regions_are_void_in_cityscapes_instances(tmp_path):
    draw_cityscapes(tmp_path)
    for sample in map(opened_set("cityscapes", tmp_path).sample, range(3)):
        expected = numbered(sample, {0: 255, 6: 255, 26: 1, 33: 2})
        expected[0, painted_values(sample["image"])[0] == 26] = 255
        assert np.array_equal(sample["instance"].numpy(), expected)


def test_things_are_objects_and_crowds_are_void_in_coco(tmp_path):
    draw_panoptic(tmp_path)
    images = opened_set("coco", tmp_path, "coco_panoptic_133")
    assert [images.sample(index)["name"][-3:] for index in range(3)] == ["139", "140", "141"]
    for index in range(3):
        sample = images.sample(index)
        # ranks follow the segments' numbers: 77 is category 13, 256 is 90, 8345037 is 1
        expected = {0: 255, 13: 255, 90: 1, 1: 2} if index == 0 else {0: 255, 13: 1, 90: 2, 1: 3}
        assert np.array_equal(sample["instance"].numpy(), numbered(sample, expected))
        crowd = painted_values(sample["image"]) == 13
        # a crowd keeps its class
        assert sample["labels"]["coco_panoptic_133"][torch.from_numpy(crowd)].eq(11).all()


def test_four_label_sets_of_coco_share_a_photograph(tmp_path):
    draw_panoptic(tmp_path)
    for path in (tmp_path / "val2017").iterdir():
        map_of_it = tmp_path / f"stuffthingmaps_trainval2017/val2017/{path.stem}.png"
        save_mask(map_of_it, np.full(SHAPES[int(path.stem) - 139], 181))
    images = opened_set("coco", tmp_path)
    labels = images.sample(1)["labels"]
    assert (
        set(labels)
        == set(images.label_sets)
        == {"coco_object_81", "coco_stuff_171", "coco_27", "coco_panoptic_133"}
    )
    assert labels["coco_27"].eq(24).all()
    assert labels["coco_stuff_171"].eq(170).all()
    assert labels["coco_object_81"].eq(0).all()
    assert "instance" not in opened_set("coco", tmp_path, "coco_stuff_171").sample(1)
    (tmp_path / "stuffthingmaps_trainval2017/val2017/000000000140.png").unlink()
    with pytest.raises(
        ValueError, match=r"no file .*000000000140\.png, which .*panoptic_val2017\.json requires"
    ):
        opened_set("coco", tmp_path)


def test_only_the_files_of_the_requested_label_set_are_required(tmp_path):
    draw_stuff(tmp_path)
    assert len(opened_set("coco", tmp_path, "coco_object_81")) == 3
    with pytest.raises(ValueError, match=r"no file .*panoptic_val2017\.json"):
        opened_set("coco", tmp_path, "coco_panoptic_133")
    draw_panoptic(tmp_path / "other")
    assert len(opened_set("coco", tmp_path / "other", "coco_panoptic_133")) == 3
    with pytest.raises(ValueError, match=r"no <12 digits>\.png in any of .*stuffthingmaps"):
        opened_set("coco", tmp_path / "other", "coco_stuff_171")
    shutil.rmtree(tmp_path / "other/annotations/panoptic_val2017")
    with pytest.raises(
        ValueError, match=r"no folder .*panoptic_val2017; unpack the panoptic_val2017\.zip"
    ):
        opened_set("coco", tmp_path / "other", "coco_panoptic_133")


def test_converted_maps_give_the_same_labels_as_the_archives(tmp_path):
    draw_stuff(tmp_path / "coco")
    draw_cityscapes(tmp_path / "cityscapes")
    before = {
        name: opened_set(name, tmp_path, *sets).sample(0)["labels"]
        for name, sets in CONVERTED.items()
    }
    stuff = opened_set("coco", tmp_path, "coco_stuff_171")
    for index in range(3):
        sample = stuff.sample(index)
        place = tmp_path / f"coco/annotations/val2017/{sample['name']}_labelTrainIds.png"
        save_mask(place, sample["labels"]["coco_stuff_171"].numpy())
    shutil.rmtree(tmp_path / "coco/stuffthingmaps_trainval2017")
    city = opened_set("cityscapes", tmp_path, "cityscapes_19")
    for index, path in enumerate(sorted((tmp_path / "cityscapes/gtFine").rglob("*_labelIds.png"))):
        place = path.with_name(path.name.replace("labelIds", "labelTrainIds"))
        save_mask(place, city.sample(index)["labels"]["cityscapes_19"].numpy())
        path.unlink()
    for name, sets in CONVERTED.items():
        after = opened_set(name, tmp_path, *sets).sample(0)["labels"]
        assert all(after[key].equal(before[name][key]) for key in sets)
    with pytest.raises(ValueError, match="'cityscapes_27' is unknown; known: cityscapes_19"):
        opened_set("cityscapes", tmp_path, "cityscapes_27")
    next((tmp_path / "cityscapes/gtFine/val/lindau").glob("*_labelTrainIds.png")).unlink()
    with pytest.raises(ValueError, match=r"no file .*lindau.*_labelTrainIds\.png"):
        opened_set("cityscapes", tmp_path, "cityscapes_19")


def test_phrases_are_those_of_classes_and_each_class_is_in_one_group():
    for file in Path(class_tables.__file__).parent.glob("tables/*.json"):
        entries = json.loads(file.read_bytes())
        for name, entry in entries.items():
            parts = entries.get(entry.get("groups_of"), entry)
            assert set(parts.get("phrases", {})) <= set(parts["names"]), name
            if "groups" in entry:
                grouped = [part for group in entry["groups"].values() for part in group]
                assert sorted(grouped) == sorted(parts["names"]), name


@pytest.mark.slow  # imports timm and open_clip
def test_the_thousand_classes_are_those_of_timm_and_open_clip():
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    table = read_tables("imagenet")["imagenet_1000"]
    assert list(table.labels.names) == list(IMAGENET_CLASSNAMES)
    info = ImageNetInfo()  # reads its tables anew each time
    assert table.entry["folders"] == [info.index_to_label_name(index) for index in range(1000)]


def test_coco_images_have_the_areas_of_their_annotations(real_data):
    root = real_data / "coco_mini"
    images = opened_set("coco", root, "coco_panoptic_133", split="train")
    content = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    segments = {entry["file_name"][:12]: entry["segments_info"] for entry in content["annotations"]}
    classes = images.label_sets["coco_panoptic_133"].names
    assert sorted(names.values()) == sorted(classes)
    assert len(images) == 100
    for index in range(0, 100, 9):
        sample = images.sample(index)
        area = dict.fromkeys(classes, 0)
        for entry in segments[sample["name"]]:
            area[names[entry["category_id"]]] += entry["area"]
        counted = torch.bincount(sample["labels"]["coco_panoptic_133"].flatten(), minlength=256)
        assert counted[:133].tolist() == list(area.values())
