"""The panels of a page of pictures, read back from its pixels."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gestalt.measures.evaluation.pictures import FONT_SIZE, MARGIN, PAPER

TOP = MARGIN + FONT_SIZE + 8
"""The first row of panels, which lie below a line of titles."""


def panels(page: Image.Image, *, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Cut three panels of a size (width, height) out of a page, from the left."""
    lefts = [MARGIN + number * (size[0] + MARGIN) for number in range(3)]
    return [np.asarray(page.crop((left, TOP, left + size[0], TOP + size[1]))) for left in lefts]


def first_size(page: Image.Image) -> tuple[int, int]:
    """Measure the first panel, which has no pixel in the colour of the paper.  Returns (width,
    height).
    """
    paper = (np.asarray(page)[TOP:, MARGIN:] == PAPER).all(axis=2)
    return int(paper[0].argmax()), int(paper[:, 0].argmax())
