"""Pictures and captions to put into files of every kind."""

import io

import numpy as np
from PIL import Image

CAPTIONS = [["a dog .", "a brown dog ."], ["a cat ,\nasleep"], ["two birds", "a pair of birds", "birds"], ["grass"], ["a car"], ["a cup"]]


def picture(number, *, form="JPEG", side=(40, 30)):
    """The file of a picture of its own."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (side[1], side[0], 3), dtype=np.uint8)).save(file, form)
    return file.getvalue()
