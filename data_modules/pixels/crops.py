"""Crops: random views of an image for pretraining, each a pure function of (seed, epoch, index, crop number).  S crop side in pixels.

Source of the distortions and their strengths: Caron et al. 2021 (arXiv:2104.14294), facebookresearch/dino at 04c0ad9, main_dino.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from data_modules.pixels.augment import crop_box
from data_modules.pixels.photographs import to_tensor

FLIP = 0.5
JITTER = 0.8
GREY = 0.2
"""Probabilities of a mirrored, a colour-jittered and a grey crop."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
"""Largest change of each: a factor in 1 +- so much, for the hue a share of the circle."""

BLUR = (0.1, 2.0)
"""Standard deviation of the blur in pixels, for global crops of ``BLUR_SIDE``; in proportion for others."""

BLUR_SIDE = 224
THRESHOLD = 128
"""Solarising inverts the values from here on."""


@dataclass(frozen=True)
class View:
    """How one of an image's crops is drawn.

    Attributes:
        size: side in pixels.
        area: least and most of the image's area that it keeps, shares in (0, 1].
        blur: probability that it is blurred.
        solarise: probability that its bright values are inverted.
        unit: side in pixels of the global crops, which the blur's width is in proportion to.
    """

    size: int
    area: tuple[float, float]
    blur: float
    solarise: float
    unit: int


def dino_views(
    *, global_size: int, global_area: tuple[float, float], local_size: int, local_area: tuple[float, float], local_crops: int
) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """DINO's two global views, one always blurred, one seldom blurred and sometimes solarised, and its local ones."""
    first = View(global_size, global_area, blur=1.0, solarise=0.0, unit=global_size)
    second = View(global_size, global_area, blur=0.1, solarise=0.2, unit=global_size)
    local = View(local_size, local_area, blur=0.5, solarise=0.0, unit=global_size)
    return (first, second), (local,) * local_crops


def draw_crop(image: Image.Image, view: View, *, seed: int, epoch: int, index: int, crop: int) -> Tensor:
    """One crop of an RGB image.  Returns (3, S, S) uint8."""
    rng = np.random.default_rng([seed, epoch, index, 3, crop])
    box = crop_box(image.width, image.height, rng=rng, area=view.area)
    made = image.resize((view.size, view.size), Image.Resampling.BICUBIC, box=box)
    if rng.random() < FLIP:
        made = ImageOps.mirror(made)
    if rng.random() < JITTER:
        made = _jittered(made, rng=rng)
    if rng.random() < GREY:
        made = made.convert("L").convert("RGB")
    if rng.random() < view.blur:
        sigma = BLUR[0] + (BLUR[1] - BLUR[0]) * rng.random()
        made = made.filter(ImageFilter.GaussianBlur(sigma * view.unit / BLUR_SIDE))
    if rng.random() < view.solarise:
        made = ImageOps.solarize(made, THRESHOLD)
    return to_tensor(made)


def _jittered(image: Image.Image, *, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation and hue, in random order."""
    factors = 1 + np.array([BRIGHTNESS, CONTRAST, SATURATION]) * (2 * rng.random(3) - 1)
    shift = HUE * (2 * rng.random() - 1)
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda made: ImageEnhance.Brightness(made).enhance(float(factors[0])),
        lambda made: ImageEnhance.Contrast(made).enhance(float(factors[1])),
        lambda made: ImageEnhance.Color(made).enhance(float(factors[2])),
        lambda made: _turned(made, shift=shift),
    ]
    for position in np.argsort(rng.random(4)):
        image = changes[position](image)
    return image


def _turned(image: Image.Image, *, shift: float) -> Image.Image:
    """Every hue moved by a share of the circle."""
    hue, saturation, value = image.convert("HSV").split()
    step = round(256 * shift)
    turned = hue.point([(level + step) % 256 for level in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
