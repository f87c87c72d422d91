"""Boxes of crops: their share of the area, and their ratio."""

import numpy as np

from gestalt.data_modules.pixels.augment import crop_box

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
