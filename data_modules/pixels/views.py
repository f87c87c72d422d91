"""Random views for pretraining, pure in (seed, epoch, index) and the crop number.  S output side in
pixels.

Source of the distortions and their strengths: Caron et al. 2021 (arXiv:2104.14294),
facebookresearch/dino at 04c0ad9, main_dino.py.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from gestalt.data_modules.pixels.augment import ENHANCERS, crop_box
from gestalt.data_modules.pixels.photographs import to_tensor

FLIP = 0.5
JITTER = 0.8
GREY = 0.2
"""Probabilities of a horizontal flip, colour jitter and greyscale."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
"""Strengths of colour jitter: factors are drawn from 1 +- strength, the hue shift from +- a share
of the colour circle.
"""

BLUR = (0.1, 2.0)
"""Standard deviation of the blur in pixels, for crops of ``BLUR_SIDE``; scaled in proportion for
other sizes.
"""

BLUR_SIDE = 224
AREA = (0.4, 1.0)
"""Smallest and largest share of the image's area in a crop."""

THRESHOLD = 128
"""Solarisation inverts the values from this one on."""


Place = tuple[float, float, float, float]
"""Left, top, right and bottom of a crop as shares of the image's width and height; left > right in
a mirrored crop.
"""


class View(NamedTuple):
    """Parameters of a crop: side in pixels, and probabilities of blur and solarisation."""

    size: int
    blur: float
    solarise: float


def two_views(size: int) -> tuple[View, View]:
    """Return DINO's global views, one always blurred, the other seldom blurred and sometimes
    solarised.
    """
    return View(size, blur=1.0, solarise=0.0), View(size, blur=0.1, solarise=0.2)


def draw_crop(
    image: Image.Image, view: View, *, seed: int, epoch: int, index: int, crop: int
) -> tuple[Tensor, Place]:
    """Draw one crop of an RGB image.  Returns (3, S, S) uint8, and where it lies in the image."""
    rng = np.random.default_rng([seed, epoch, index, 3, crop])
    box = crop_box(image.width, image.height, rng=rng, area=AREA)
    left, top, right, bottom = (edge / side for edge, side in zip(box, image.size * 2, strict=True))
    pixels = image.resize((view.size, view.size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < FLIP:
        left, right = right, left
        pixels = ImageOps.mirror(pixels)
    if rng.random() < JITTER:
        pixels = _jittered(pixels, rng)
    if rng.random() < GREY:
        pixels = pixels.convert("L").convert("RGB")
    if rng.random() < view.blur:
        sigma = BLUR[0] + (BLUR[1] - BLUR[0]) * rng.random()
        pixels = pixels.filter(ImageFilter.GaussianBlur(sigma * view.size / BLUR_SIDE))
    if rng.random() < view.solarise:
        pixels = ImageOps.solarize(pixels, THRESHOLD)
    return to_tensor(pixels), (left, top, right, bottom)


def _jittered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation and hue, in random order."""
    factors = 1 + np.array([BRIGHTNESS, CONTRAST, SATURATION]) * (2 * rng.random(3) - 1)
    shift = round(256 * HUE * (2 * rng.random() - 1))
    for position in np.argsort(rng.random(4)):
        if position < len(ENHANCERS):
            image = ENHANCERS[position](image).enhance(float(factors[position]))
        else:
            hue, *others = image.convert("HSV").split()
            shifted = hue.point([(level + shift) % 256 for level in range(256)])
            image = Image.merge("HSV", (shifted, *others)).convert("RGB")
    return image
