"""Flickr8k in the Kaggle layout with the official split files: drawn small, and real where it is
there.
"""

import csv

import numpy as np
import pytest
from PIL import Image

from gestalt.data_modules.image_sets import open_image_set
from gestalt.data_modules.sources import open_source

COMMAS = 'A man says "hello", waves, and leaves .'


@pytest.fixture
def root(tmp_path):
    """Four photographs (one grey, one in no split), five captions each, two of the captions
    quoted.
    """
    (tmp_path / "Images").mkdir()
    rng = np.random.default_rng(0)
    for number, (width, height) in enumerate([(40, 30), (30, 40), (36, 36), (50, 20)]):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        (image.convert("L") if number == 1 else image).save(tmp_path / "Images" / f"{number}_a.jpg")
    with (tmp_path / "captions.txt").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for number in range(4):
            for caption in (COMMAS, "two, three", "a dog .", "a cat .", " a bird . "):
                writer.writerow(
                    [
                        f"{number}_a.jpg",
                        f"{caption.strip()} {number}" if caption != COMMAS else COMMAS,
                    ]
                )
    for split, names in {"train": [2, 0, 1], "dev": [0], "test": [1]}.items():
        (tmp_path / f"Flickr_8k.{split}Images.txt").write_text(
            "".join(f"{name}_a.jpg\n" for name in names)
        )
    return tmp_path


def source(root, *, seed=0, limit=None, size=16, **options):
    return open_source("flickr", root=str(root), size=size, seed=seed, limit=limit, **options)


def test_the_split_file_selects_and_orders_the_images(root):
    assert len(source(root)) == 3
    numbers = [
        next(
            caption
            for epoch in range(9)
            if (caption := source(root).pair(index, epoch)[1]) != COMMAS
        )[-1]
        for index in range(3)
    ]
    assert numbers == ["2", "0", "1"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: (root / "Images" / "1_a.jpg").unlink(),
            r"1_a\.jpg is in .*Flickr_8k\.trainImages\.txt but not in",
        ),
        (
            lambda root: (root / "captions.txt").write_text("image,caption\n2_a.jpg,x\n"),
            r"0_a\.jpg .* has no caption",
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
    images = open_image_set("flickr", root=str(root), split=None, limit=None, subset=True)
    sample = images.sample(0)
    assert sample["image"].shape == (3, 30, 40)
    assert sample["name"] == "0_a"
    assert len(sample["captions"]) == 5
    assert images.label_sets == {}
