"""Slow references of the protocols on whole images: float64 NumPy, one pixel row, one class, one
prompt at a time.

CLIPpy's numbers and words stand here as its paper and its public code have them (arXiv:2210.09996;
kahnchana/clippy at 04bf78b), ours as the README does.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

VOC_60 = re.split(
    r",\s",
    """background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, table, dog,
horse, motorbike, person, potted plant, sheep, sofa, train, television monitor, bag, bed,
bench, book, building, cabinet, ceiling, cloth, computer, cup, door, fence, floor, flower,
food, grass, ground, keyboard, light, mountain, mouse, curtain, platform, sign, plate, road,
rock, shelves, sidewalk, sky, snow, bedclothes, track, tree, truck, wall, water, window, wood""",
)
"""CLIPpy's words for VOC, in its order; what comes behind the 21st is background."""


@dataclass(frozen=True)
class Whole:
    """Rules by which a whole image is segmented."""

    side: int
    shape: str  # square, multiple, crop
    squashed: bool = False  # label and prediction at side x side
    article: str = "sound"  # sound, letter

    def canvas_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size that the image is resized to, before a crop is cut from it."""
        short = min(height, width)
        if self.shape == "square":
            return self.side, self.side
        if self.shape == "crop":
            return (int(self.side * height / short), int(self.side * width / short))
        halves_up = [
            math.floor(Fraction(each * self.side, short * 32) + Fraction(1, 2))
            for each in (height, width)
        ]
        return halves_up[0] * 32, halves_up[1] * 32


WHOLE = {
    "whole_square": Whole(224, "square"),
    "whole_short_side": Whole(448, "multiple"),
    "clippy-paper": Whole(448, "multiple"),
    "clippy-repo": Whole(224, "crop", squashed=True, article="letter"),
}

BEFORE = {"hour hand": "an", "unicorn": "a", "apple": "an", "European robin": "a", "umbrella": "an"}
"""Phrases of the tests that begin with a vowel, or do not, though their first letter says
otherwise; all others take "a".
"""


def prompt(phrase: str, rules: Whole) -> str:
    """``a photo of an apple``, in lower case and without a full stop."""
    by_letter = "an" if phrase[0].lower() in "aeiou" else "a"
    article = by_letter if rules.article == "letter" else BEFORE.get(phrase, "a")
    return f"a photo of {article} {phrase}".lower()


def shrink_or_grow(image: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    """(3, h, w) to (3, *size) in float64, unrounded: ``bilinear``, OpenCV's, or ``bicubic`` that
    averages where it shrinks, Pillow's.
    """
    values = image.astype(np.float64)
    rows = np.stack(
        [_weighted(values, 1, *_cells(y, values.shape[1], size[0], how)) for y in range(size[0])],
        axis=1,
    )
    return np.stack(
        [_weighted(rows, 2, *_cells(x, rows.shape[2], size[1], how)) for x in range(size[1])],
        axis=2,
    )


def _weighted(values: np.ndarray, axis: int, cells: list[int], weights: list[float]) -> np.ndarray:
    return sum(
        weight * values.take(cell, axis=axis) for cell, weight in zip(cells, weights, strict=True)
    )


def _cells(place: int, n: int, m: int, how: str) -> tuple[list[int], list[float]]:
    """The cells that a pixel is made of, and how much of each."""
    if how == "bilinear":
        at = min(max((place + 0.5) * n / m - 0.5, 0.0), n - 1.0)
        low = math.floor(at)
        return [low, min(low + 1, n - 1)], [1 - (at - low), at - low]
    wide = max(n / m, 1.0)
    centre = (place + 0.5) * n / m
    cells = [cell for cell in range(n) if abs(cell + 0.5 - centre) < 2 * wide]
    weights = [_cubic(abs(cell + 0.5 - centre) / wide) for cell in cells]
    return cells, [weight / sum(weights) for weight in weights]


def _cubic(far: float) -> float:
    """Keys's kernel, a = -1/2."""
    if far < 1:
        return 1.5 * far**3 - 2.5 * far**2 + 1
    return -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2 if far < 2 else 0.0


def cut_middle(image: np.ndarray, side: int) -> np.ndarray:
    """The square in the middle; of two middles the one at an even pixel, as Python rounds."""
    top, left = (round((length - side) / 2) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def nearest_label(label: np.ndarray, side: int) -> np.ndarray:
    """(H, W) to (side, side), aspect lost, each pixel that whose square holds its centre."""
    out = np.empty((side, side), dtype=label.dtype)
    for y in range(side):
        for x in range(side):
            out[y, x] = label[
                int((y + 0.5) * label.shape[0] / side), int((x + 0.5) * label.shape[1] / side)
            ]
    return out
