"""Augmentation of photographs, each draw a pure function of (seed, epoch, index).  S output side in pixels."""

import math

import numpy as np
from torch import Tensor

from data_modules.pixels.decoding import decode_crop

SCALE = (0.9, 1.0)
"""Share of the image's area that a crop keeps.  Source: public CLIPpy code, training transform."""

RATIO = (3 / 4, 4 / 3)
"""Width over height of a crop before it is squeezed into a square."""

_TRIES = 10


def crop_box(width: int, height: int, *, rng: np.random.Generator, area: tuple[float, float] = SCALE) -> tuple[float, float, float, float]:
    """A random box of the image, (left, top, right, bottom) in pixels: a share in ``area`` of its own, at a ratio in ``RATIO``.

    Where no such box was found the largest centred one of an allowed ratio is taken (a panorama loses its ends).
    """
    for _ in range(_TRIES):
        share, bend, left, top = rng.random(4).tolist()
        pixels = width * height * (area[0] + (area[1] - area[0]) * share)
        ratio = math.exp(math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * bend)
        across, down = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
        if across <= width and down <= height:
            return left * (width - across), top * (height - down), left * (width - across) + across, top * (height - down) + down
    ratio = min(max(width / height, RATIO[0]), RATIO[1])
    across, down = min(width, height * ratio), min(height, width / ratio)
    return (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2


def random_resized_crop(content: bytes, size: int, *, seed: int, epoch: int, index: int) -> Tensor:
    """Decode a photograph, crop at random and resize to a square, bicubic.  Returns (3, S, S) uint8.

    Raises:
        Undecodable: not an image of use; says why.
    """
    words = [seed, epoch, index, 1]
    # the same stream either way, begun in two thirds of the time from an array
    rng = np.random.default_rng(np.array(words, dtype=np.uint32) if max(words) < 2**32 else words)
    return decode_crop(content, size, choose=lambda width, height: crop_box(width, height, rng=rng))
