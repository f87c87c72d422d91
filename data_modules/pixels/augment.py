"""Random crops of photographs, mirrored and with other colours where a run asks for it, pure in
(seed, epoch, index).  S output side in pixels.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance
from torch import Tensor

from gestalt.data_modules.pixels.decoding import prepare_crop
from gestalt.data_modules.pixels.photographs import to_tensor

SCALE = (0.9, 1.0)
"""Range of a crop's share of the image area.  Source: public CLIPpy code, training transform."""

RATIO = (3 / 4, 4 / 3)
"""Range of a crop's width over height, before it is resized to a square."""

ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
"""Operations that change an image by a factor each: brightness, contrast, saturation."""


class Augmentation(NamedTuple):
    """The random changes of a photograph in training, by the names of their keys of ``data``."""

    crop_scale: tuple[float, float] = SCALE
    flip: float = 0.0
    colour: float = 0.0


USUAL = Augmentation()
"""Crops alone, as in the public CLIPpy code."""

_TRIES = 10
_LOG_RATIO = math.log(RATIO[0]), math.log(RATIO[1])


def crop_box(
    width: int, height: int, *, rng: np.random.Generator, area: tuple[float, float] = SCALE
) -> tuple[float, float, float, float]:
    """Draw a box, (left, top, right, bottom) in pixels, with a share in ``area`` of the image and a
    width over height in ``RATIO``.

    If no such box fits after several draws, return the largest centred box of an allowed ratio,
    which cuts the ends of a panorama.
    """
    for _ in range(_TRIES):
        share, bend, left, top = rng.random(4).tolist()
        pixels = width * height * (area[0] + (area[1] - area[0]) * share)
        ratio = math.exp(_LOG_RATIO[0] + (_LOG_RATIO[1] - _LOG_RATIO[0]) * bend)
        across, down = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if across <= width and down <= height:
            left, top = left * (width - across), top * (height - down)
            return left, top, left + across, top + down
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    across, down = min(width, height * ratio), min(height, width / ratio)
    return (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2


def prepare_random_crop(
    content: bytes,
    size: int,
    *,
    seed: int,
    epoch: int,
    index: int,
    augmentation: Augmentation = USUAL,
) -> Callable[[], Tensor]:
    """Draw a random crop of a photograph; the result decodes it and resizes it to a square,
    bicubic, (3, S, S) uint8, or raises ``BadSample``.  The box does not depend on flip and colour,
    which have draws of their own.
    """
    words = [seed, epoch, index, 1]
    # both forms give the same stream; an array takes two thirds of the time
    rng = np.random.default_rng(np.array(words, dtype=np.uint32) if max(words) < 2**32 else words)
    area = augmentation.crop_scale
    decode = prepare_crop(
        content, size, choose=lambda width, height: crop_box(width, height, rng=rng, area=area)
    )
    if not (augmentation.flip or augmentation.colour):
        return decode
    return partial(_changed, decode, augmentation, *rng.spawn(1))


def _changed(
    decode: Callable[[], Tensor], augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """Decode a crop, mirror it, and change its colours in random order, as drawn."""
    pixels = decode()
    if rng.random() < augmentation.flip:
        pixels = pixels.flip(2)
    if augmentation.colour:
        least, most = 1 - augmentation.colour, 1 + augmentation.colour
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        for number in rng.permutation(3):
            image = ENHANCERS[number](image).enhance(rng.uniform(least, most))
        pixels = to_tensor(image)
    return pixels
