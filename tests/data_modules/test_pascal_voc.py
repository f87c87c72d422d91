"""PASCAL VOC in its official layout: drawn small, and a real folder of the same layout where it is there."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.image_sets import open_image_set
from data_modules.image_sets.pascal_voc import LABELS

SIZES = {"2007_000001": (50, 33), "2007_000002": (33, 50), "2007_000003": (40, 40), "2007_000009": (20, 20)}  # (width, height)


def voc_palette():
    """The official colours: bits of the index, interleaved over red, green and blue from the top down."""
    colours = []
    for index in range(256):
        colour = [0, 0, 0]
        for bit in range(8):
            colour[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colours += colour
    return colours


def save_mask(path, values, *, mode="P"):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(values)
    if mode == "P":
        mask.putpalette(voc_palette())
    assert mask.mode == mode
    mask.save(path)


@pytest.fixture
def root(tmp_path):
    """Three ids in val and one unlisted; classes 0, 1, 4, 20 and void; objects 1 and 2 of one class; one grey mask, one grey photograph."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    (folder / "JPEGImages").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        photograph = Image.new("RGB", (width, height), (20 * number, 90, 200))
        (photograph.convert("L") if number == 2 else photograph).save(folder / "JPEGImages" / f"{name}.jpg")
        values = np.zeros((height, width), dtype=np.uint8)
        values[2:8, 2:8], values[10:14, 4:9], values[15:18, 3:9], values[0] = 1, 4, 20, 255
        save_mask(folder / "SegmentationClass" / f"{name}.png", values, mode="L" if number == 1 else "P")
        objects = np.zeros_like(values)
        objects[2:8, 2:5], objects[2:8, 5:8], objects[0] = 1, 2, 255
        save_mask(folder / "SegmentationObject" / f"{name}.png", objects)
    names = list(SIZES)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("".join(f"{name} \n" for name in (names[1], names[0], names[2])))
    return tmp_path


def open_val(root, *, split=None, limit=None, subset=True):
    return open_image_set("pascal_voc", root=str(root), split=split, limit=limit, subset=subset)


def by_name(images):
    return {images.sample(index)["name"]: images.sample(index) for index in range(len(images))}


def test_the_list_file_decides_what_is_read_and_in_which_order(root):
    images = open_val(root)
    assert [images.sample(index)["name"] for index in range(len(images))] == ["2007_000002", "2007_000001", "2007_000003"]


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_of_the_three_folders(root, inner):
    assert len(open_val(root / inner)) == 3


def test_masks_are_the_stored_indices_not_colours(root):
    for sample in by_name(open_val(root)).values():
        label = sample["labels"]["voc21"]
        assert label.dtype == torch.uint8
        assert label.unique().tolist() == [0, 1, 4, 20, 255]
        assert label[3, 3] == 1
        assert label[12, 6] == 4  # exchanged with 1 where red and blue are
        assert label[16, 5] == 20
        assert label[0].eq(255).all()


def test_twenty_classes_are_the_same_masks_without_background(root):
    images = open_image_set("pascal_voc", root=str(root), split=None, limit=None, subset=True, label_sets=["voc21", "voc20"])
    labels = by_name(images)["2007_000001"]["labels"]
    assert labels["voc20"].unique().tolist() == [0, 3, 19, 255]
    assert labels["voc20"].ne(255).equal(labels["voc21"].ne(255) & labels["voc21"].ne(0))
    assert LABELS["voc20"].names == LABELS["voc21"].names[1:]
    assert LABELS["voc20"].background is None


def test_only_the_requested_label_sets_are_built(root):
    assert list(open_image_set("pascal_voc", root=str(root), split=None, limit=None, subset=True, label_sets=["voc20"]).label_sets) == [
        "voc20"
    ]
    with pytest.raises(ValueError, match="label set 'voc22' is unknown; known: voc21, voc20"):
        open_image_set("pascal_voc", root=str(root), split=None, limit=None, subset=True, label_sets=["voc22"])


def test_images_and_maps_keep_their_native_size(root):
    for name, sample in by_name(open_val(root)).items():
        width, height = SIZES[name]
        assert sample["image"].shape == (3, height, width)
        assert sample["labels"]["voc21"].shape == sample["instance"].shape == (height, width)


def test_objects_are_read_if_the_folder_has_them(root):
    assert open_val(root).sample(0)["instance"].unique().tolist() == [0, 1, 2, 255]
    (root / "VOCdevkit/VOC2012/SegmentationObject").rename(root / "elsewhere")
    assert "instance" not in open_val(root).sample(0)


def test_no_instances_gives_the_reason_why_objects_are_missing(root):
    assert open_val(root).no_instances is None
    (root / "VOCdevkit/VOC2012/SegmentationObject").rename(root / "elsewhere")
    assert "no folder" in open_val(root).no_instances
    assert "VOC2012/SegmentationObject" in open_val(root).no_instances


def test_a_split_without_the_official_number_of_images_is_refused_unless_allowed(root):
    with pytest.raises(ValueError, match="has 3 images, the official split 1449"):
        open_val(root, subset=False)
    with pytest.raises(ValueError, match="has 3 images, the official split 1449"):
        open_val(root, subset=False, limit=7)
    assert len(open_val(root, subset=True)) == 3
    assert len(open_val(root, subset=False, limit=2)) == 2


def remove(name):
    return lambda folder: (folder / name).unlink()


def replace_mask(values, mode="P"):
    return lambda folder: save_mask(folder / "SegmentationClass/2007_000001.png", values, mode=mode)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("JPEGImages/2007_000001.jpg"), r"no file .*JPEGImages/2007_000001\.\w+, which .*val\.txt requires"),
        (remove("SegmentationClass/2007_000001.png"), r"no file .*SegmentationClass/2007_000001\.\w+, which .*val\.txt requires"),
        (
            remove("SegmentationObject/2007_000001.png"),
            r"no file .*SegmentationObject/2007_000001\.\w+, which .*val\.txt requires",
        ),
        (remove("ImageSets/Segmentation/val.txt"), r"no file .*val\.txt"),
        (replace_mask(np.zeros((50, 33), dtype=np.uint8)), r"2007_000001\.png is 33x50, its image 50x33"),
        (replace_mask(np.full((33, 50), 38, dtype=np.uint8)), r"2007_000001\.png holds values \[38\]; it must hold 0-20, 255 only"),
        (replace_mask(np.zeros((33, 50, 3), dtype=np.uint8), "RGB"), r"2007_000001\.png has mode RGB"),
    ],
)
def test_a_missing_file_or_invalid_mask_is_named(root, spoil, message):
    spoil(root / "VOCdevkit" / "VOC2012")
    with pytest.raises(ValueError, match=message):
        by_name(open_val(root))


def test_an_unknown_split_or_place_is_refused(root, tmp_path):
    with pytest.raises(ValueError, match="known: train, val, trainval"):
        open_val(root, split="test")
    with pytest.raises(ValueError, match="ImageSets/Segmentation"):
        open_val(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="VOCdevkit"):
        open_image_set("pascal_voc", root=None, split=None, limit=None, subset=True)


def test_sixty_words_stand_for_twenty_one_classes():
    labels = LABELS["voc21"]
    words = [word for prompts in labels.prompts for word in prompts]
    assert len(labels.names) == 21
    assert len(words) == len(set(words)) == 60
    assert len(labels.prompts[0]) == 40
    assert labels.prompts[11] == ("table",)
    assert labels.prompts[16] == ("potted plant",)
    assert labels.prompts[20] == ("television monitor",)
    assert labels.background == 0


def test_a_real_folder_of_the_layout_is_read_whole(real_data):
    images = open_val(real_data / "voc_style")
    assert len(images) == 125
    assert len({int(value) for index in range(40) for value in images.sample(index)["labels"]["voc21"].unique()} & set(range(21))) > 10
