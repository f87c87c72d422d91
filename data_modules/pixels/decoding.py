"""Decoding: from the bytes of a file to one crop of its picture, and no more work than that takes.  S output side in pixels.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where the crop still has S pixels a side there. libjpeg does that on its blocks of 8x8
cosine coefficients: pixel i then stands for the stored pixels from k*i to k*(i+1), so a coordinate is divided by k, also where k does
not divide the size and the last pixel stands for fewer.
"""

from collections.abc import Callable

from PIL import Image
from torch import Tensor

from data_modules.pixels.photographs import Undecodable, as_rgb, decoding, open_checked, to_tensor

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

LEAST_SIDE = 8
"""Pixels: what is narrower or flatter (the 1x1 pictures that count visitors of web pages) shows nothing that a caption could mean."""

_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {  # orientation: axes swapped, x mirrored, y mirrored on the way from the shown to the stored pixels; how to show a stored crop
    2: (False, True, False, Image.Transpose.FLIP_LEFT_RIGHT),
    3: (False, True, True, Image.Transpose.ROTATE_180),
    4: (False, False, True, Image.Transpose.FLIP_TOP_BOTTOM),
    5: (True, False, False, Image.Transpose.TRANSPOSE),
    6: (True, False, True, Image.Transpose.ROTATE_270),
    7: (True, True, True, Image.Transpose.TRANSVERSE),
    8: (True, True, False, Image.Transpose.ROTATE_90),
}


def decode_crop(content: bytes, size: int, *, choose: Callable[[int, int], Box]) -> Tensor:
    """A box of a picture, resized to a square, bicubic.  Returns (3, S, S) uint8.

    Args:
        content: of the file.
        size: S.
        choose: is given width and height in pixels, as a viewer shows the picture (its orientation tag applied), and returns the box.

    Raises:
        Undecodable: not an image of use; says why.
    """
    with decoding():
        image = open_checked(content)
        jpeg = image.format in ("JPEG", "MPO")
        if not jpeg:
            image.load()  # some formats hold their orientation behind the pixels, and TIFF is turned by loading it
        turn = _turn(image, jpeg=jpeg)
    _check_side(image)
    box = _stored(choose(*_shown_size(image, turn)), size=image.size, turn=turn)
    divisor = _divisor(box, size=size) if jpeg else 1
    with decoding():
        if divisor > 1:
            image.draft(None, (image.width // divisor, image.height // divisor))  # takes the largest divisor that leaves these
        pixels = as_rgb(image)
    left, top, right, bottom = (edge / divisor for edge in box)
    crop = pixels.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    return to_tensor(crop if turn is None else crop.transpose(_TURNS[turn][3]))


def shown_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels of a picture as a viewer shows it, once all of it was decoded.

    Raises:
        Undecodable: as ``decode_crop``.
    """
    with decoding():
        image = open_checked(content)
        image.load()
        _check_side(image)
        as_rgb(image)
        return _shown_size(image, _turn(image, jpeg=image.format in ("JPEG", "MPO")))


def _check_side(image: Image.Image) -> None:
    if min(image.size) < LEAST_SIDE:
        raise Undecodable("too_small", f"{image.width}x{image.height}, at least {LEAST_SIDE} pixels a side")


def _turn(image: Image.Image, *, jpeg: bool) -> int | None:
    """The orientation tag, None where the picture is shown as it is stored."""
    if jpeg and not {"exif", "xmp"} & image.info.keys():
        return None  # most files, and looking closer takes time
    found = image.getexif().get(_ORIENTATION)
    return found if found in _TURNS else None


def _shown_size(image: Image.Image, turn: int | None) -> tuple[int, int]:
    return (image.height, image.width) if turn is not None and _TURNS[turn][0] else (image.width, image.height)


def _stored(box: Box, *, size: tuple[int, int], turn: int | None) -> Box:
    """A box of the picture as it is shown, on the pixels as they are stored."""
    if turn is None:
        return box
    (left, top, right, bottom), (width, height) = box, size
    swapped, mirrored_x, mirrored_y, _ = _TURNS[turn]
    if swapped:
        left, top, right, bottom = top, left, bottom, right
    if mirrored_x:
        left, right = max(width - right, 0.0), width - left  # a rounding below 0 is no place in the picture
    if mirrored_y:
        top, bottom = max(height - bottom, 0.0), height - top
    return left, top, right, bottom


def _divisor(box: Box, *, size: int) -> int:
    """The largest fraction of its size that a JPEG can be decoded at, so that the box keeps S pixels a side: 1/k, k here."""
    room = min(box[2] - box[0], box[3] - box[1]) / size
    return next(k for k in (8, 4, 2, 1) if k <= room or k == 1)
