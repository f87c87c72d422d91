"""Backgrounds: procedural textures, square tiles of two scene sides.  S scene side in pixels.

To add one, write a painter, add it to ``PAINTERS``, and add its phrases to ``recipes``.
"""

from functools import cache

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageColor

from gestalt.support.arrays import Floats, Pixels

VARIANTS = 3
"""Number of tiles of each background."""

_SIDE = 512  # pixels of a painted tile, two scene sides


def _noise(rng: Generator, rows: int, columns: int) -> Floats:
    """Draw smooth noise in [0, 1] of ``rows`` x ``columns`` cells.  Returns (_SIDE, _SIDE)."""
    lattice = Image.fromarray(rng.random((rows, columns), dtype=np.float32))
    return np.clip(
        np.asarray(lattice.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), dtype=np.float64), 0, 1
    )


def _between(dark: str, light: str, share: Floats) -> Floats:
    """Mix two colours by a share in [0, 1] at each pixel.  Returns (_SIDE, _SIDE, 3)."""
    start, end = np.asarray([ImageColor.getrgb(dark), ImageColor.getrgb(light)], dtype=np.float64)
    return start + (end - start) * np.clip(share, 0, 1)[..., None]


def _grid() -> Floats:
    """Return row and column coordinates in scene sides, [0, 2): (2, _SIDE, _SIDE)."""
    return np.mgrid[0:_SIDE, 0:_SIDE] * (2 / _SIDE)


def _grass(rng: Generator) -> Floats:
    blades = 0.6 * _noise(rng, 48, 170) + 0.4 * _noise(rng, 90, 256)
    return _between("#225c1c", "#8cc44a", 0.75 * blades + 0.25 * _noise(rng, 8, 8))


def _water(rng: Generator) -> Floats:
    row, _ = _grid()
    swell = 0.5 + 0.5 * np.sin(
        2 * np.pi * (7 * row + 1.2 * _noise(rng, 6, 8) + 0.4 * _noise(rng, 12, 24))
    )
    return _between("#1454a0", "#68b4e2", 0.55 * swell**2 + 0.45 * _noise(rng, 64, 14))


def _sand(rng: Generator) -> Floats:
    row, column = _grid()
    ripple = 0.5 + 0.5 * np.sin(2 * np.pi * (4 * row + column + 1.5 * _noise(rng, 5, 5)))
    return _between(
        "#c4a068",
        "#f2daa4",
        0.3 * ripple + 0.35 * _noise(rng, 256, 256) + 0.35 * _noise(rng, 10, 10),
    )


def _brick_wall(rng: Generator) -> Floats:
    row, column = _grid()
    course = np.floor(row * 8).astype(int)  # sixteen courses a tile
    along = (column * 4 + 0.5 * (course % 2)) % 8
    shade = rng.random((16, 8))[course, along.astype(int)]
    mortar = (row * 8 % 1 < 0.14) | (along % 1 < 0.07)
    bricks = _between("#802c1e", "#be563a", 0.7 * shade + 0.3 * _noise(rng, 128, 128))
    return np.where(
        mortar[..., None], _between("#b0a89c", "#cec6ba", _noise(rng, 128, 128)), bricks
    )


def _night_sky(rng: Generator) -> Floats:
    sky = _between("#080a22", "#22265c", 0.6 * _noise(rng, 4, 4) + 0.4 * _noise(rng, 10, 10))
    for size, number in ((3, 90), (4, 50), (6, 14)):
        for top, left in rng.integers(0, _SIDE - size, (number, 2)):
            sky[top : top + size, left : left + size] = (236, 236, 214)
    return sky


def _snow(rng: Generator) -> Floats:
    return _between(
        "#c6d4e8", "#fcfdff", 0.7 * _noise(rng, 7, 5) + 0.3 * _noise(rng, 180, 180) + 0.15
    )


def _wooden_floor(rng: Generator) -> Floats:
    row, column = _grid()
    plank = np.floor(column * 5).astype(int)
    shade = rng.random(10)[plank]
    grain = 0.6 * _noise(rng, 10, 200) + 0.4 * _noise(rng, 40, 256)
    boards = _between("#704422", "#ba804a", 0.5 * shade + 0.5 * grain)
    ends = np.abs((row + rng.random(10)[plank]) % 1.1) < 0.012
    return np.where(((column * 5 % 1 < 0.07) | ends)[..., None], np.asarray((66, 40, 22)), boards)


def _cloudy_sky(rng: Generator) -> Floats:
    cloud = 0.55 * _noise(rng, 8, 5) + 0.3 * _noise(rng, 18, 12) + 0.15 * _noise(rng, 40, 30)
    return _between("#70aee8", "#f6f9fc", (cloud - 0.38) * 4)


PAINTERS = {
    "grass": _grass,
    "water": _water,
    "sand": _sand,
    "brick wall": _brick_wall,
    "night sky": _night_sky,
    "snow": _snow,
    "wooden floor": _wooden_floor,
    "cloudy sky": _cloudy_sky,
}


@cache
def paint_tile(name: str, variant: int, size: int) -> Pixels:
    """Paint one tile of a background, which looks the same at any size.  Returns (2S, 2S, 3) for a
    scene of side ``size``, which callers must not write to.
    """
    rng = np.random.default_rng([list(PAINTERS).index(name), variant])
    tile = Image.fromarray(np.clip(PAINTERS[name](rng), 0, 255).round().astype(np.uint8))
    return np.asarray(tile.resize((2 * size, 2 * size), Image.Resampling.LANCZOS))
