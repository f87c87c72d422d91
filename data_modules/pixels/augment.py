"""Random crops of photographs, pure in (seed, epoch, index).  S output side in pixels."""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from gestalt.data_modules.pixels.decoding import prepare_crop

SCALE = (0.9, 1.0)
"""Range of a crop's share of the image area.  Source: public CLIPpy code, training transform."""

RATIO = (3 / 4, 4 / 3)
"""Range of a crop's width over height, before it is resized to a square."""

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
    content: bytes, size: int, *, seed: int, epoch: int, index: int
) -> Callable[[], Tensor]:
    """Draw a random crop of a photograph; the result decodes it and resizes it to a square,
    bicubic, (3, S, S) uint8, or raises ``Unusable``.
    """
    words = [seed, epoch, index, 1]
    # both forms give the same stream; an array takes two thirds of the time
    rng = np.random.default_rng(np.array(words, dtype=np.uint32) if max(words) < 2**32 else words)
    return prepare_crop(
        content, size, choose=lambda width, height: crop_box(width, height, rng=rng)
    )
