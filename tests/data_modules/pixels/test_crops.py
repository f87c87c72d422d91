"""Crops for pretraining: pure draws, within what a view allows."""

import numpy as np
import pytest
import torch
from PIL import Image

from gestalt.data_modules.pixels import augment
from gestalt.data_modules.pixels.augment import View, crop_box
from gestalt.data_modules.pixels.augment import draw_crop as draw

KEY = {"seed": 3, "epoch": 2, "index": 11, "crop": 4}
PLAIN = View(16, blur=0.0, solarise=0.0)


def draw_crop(*args, **key):
    return draw(*args, **key)[0]


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize("solarise", [0.0, 1.0])
def test_the_same_key_gives_the_same_crop_whatever_was_drawn_before(image, blur, solarise):
    view = View(16, blur=blur, solarise=solarise)
    first = draw_crop(image, view, **KEY)
    for index in range(5):
        draw_crop(image, view, **{**KEY, "index": index})
    np.random.default_rng(0)
    assert torch.equal(first, draw_crop(image, view, **KEY))


@pytest.mark.parametrize("key", KEY)
def test_another_seed_epoch_image_or_crop_number_gives_another_crop(image, key):
    assert not torch.equal(
        draw_crop(image, PLAIN, **KEY), draw_crop(image, PLAIN, **{**KEY, key: KEY[key] + 1})
    )


BOXES = [
    crop_box(80, 60, rng=np.random.default_rng(index), area=(0.2, 0.5)) for index in range(4000)
]
LEFT, TOP, RIGHT, BOTTOM = np.array(BOXES).T


def test_a_box_keeps_the_share_of_the_area_that_is_asked_for():
    assert ((LEFT >= 0) & (LEFT < RIGHT) & (RIGHT <= 80)).all()
    assert ((TOP >= 0) & (TOP < BOTTOM) & (BOTTOM <= 60)).all()
    shares = (RIGHT - LEFT) * (BOTTOM - TOP) / (80 * 60)
    assert 0.2 <= shares.min() < 0.25
    assert 0.45 < shares.max() <= 0.5 + 1e-9


def test_a_ratio_is_as_likely_as_its_inverse():
    # the standard error is 0.0026; of ratios that are drawn uniformly the mean is 0.027
    assert abs(np.log((RIGHT - LEFT) / (BOTTOM - TOP)).mean()) < 0.01


def test_solarised_bright_values_are_inverted_and_dark_ones_stay(monkeypatch):
    monkeypatch.setattr(augment, "JITTER", 0.0)
    made = [
        draw_crop(Image.new("RGB", (32, 32), (level,) * 3), View(8, 0.0, 1.0), **KEY)
        for level in (0, 255)
    ]
    assert [int(crop.max()) for crop in made] == [0, 0]
