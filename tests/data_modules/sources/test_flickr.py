"""Flickr8k in the Kaggle layout with the official split files: drawn small, and real where it is
there.
"""

import pytest

from tests.data_modules.files import CAPTIONS, opened, opened_set, write_flickr


@pytest.fixture
def root(tmp_path):
    """Flickr's layout, three photographs in the split for training and one in the others."""
    write_flickr(tmp_path)
    for split, names in {"train": [2, 0, 1], "dev": [0], "test": [1]}.items():
        (tmp_path / f"Flickr_8k.{split}Images.txt").write_text(
            "".join(f"{name}.jpg\n" for name in names)
        )
    return tmp_path


def source(root):
    return opened("flickr", root)


def test_the_split_file_selects_and_orders_the_images(root):
    assert len(source(root)) == 3
    for index, number in enumerate((2, 0, 1)):
        assert {source(root).pair(index, epoch)[1] for epoch in range(20)} == set(CAPTIONS[number])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "Images/1.jpg").unlink(),
            r"no file .*1\.jpg, which .*Flickr_8k\.trainImages\.txt requires",
        ),
        (
            lambda root: (root / "captions.txt").write_text("image,caption\n2.jpg,x\n"),
            r"0\.jpg .* has no caption",
        ),
        (lambda root: (root / "Flickr_8k.trainImages.txt").unlink(), r"no file .*trainImages\.txt"),
        (lambda root: (root / "Images").rename(root / "images_"), "no folder .*Images"),
        (
            lambda root: (root / "captions.txt").write_text("name|text\n"),
            "first line must be image,caption",
        ),
    ],
)
def test_a_missing_or_malformed_file_is_named(root, spoil, message):
    spoil(root)
    with pytest.raises(ValueError, match=message):
        source(root)


def test_the_image_set_gives_photographs_at_native_size_with_all_captions(root):
    images = opened_set("flickr", root)
    sample = images.sample(0)
    assert sample["image"].shape == (3, 30, 40)
    assert sample["name"] == "0"
    assert len(sample["captions"]) == 2
    assert images.label_sets == {}
