"""Crops for pretraining: pure draws, within what a view allows."""

import numpy as np
import pytest
import torch
from PIL import Image

from gestalt.data_modules.pixels import views
from gestalt.data_modules.pixels.views import View
from gestalt.data_modules.pixels.views import draw_crop as draw
from tests.data_modules.files import noise

KEY = {"seed": 3, "epoch": 2, "index": 11, "crop": 4}
PLAIN = View(16, blur=0.0, solarise=0.0)


def draw_crop(*args, **key):
    return draw(*args, **key)[0]


@pytest.fixture
def image():
    return noise(40, 48)


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


def test_solarised_bright_values_are_inverted_and_dark_ones_stay(monkeypatch):
    monkeypatch.setattr(views, "JITTER", 0.0)
    made = [
        draw_crop(Image.new("RGB", (32, 32), (level,) * 3), View(8, 0.0, 1.0), **KEY)
        for level in (0, 255)
    ]
    assert [int(crop.max()) for crop in made] == [0, 0]
