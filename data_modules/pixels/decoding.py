"""Decode one crop of an image file with as little work as possible.  S output side, H W pixels.

A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if the crop still has at least S pixels a side.
libjpeg does so on its blocks of 8x8 cosine coefficients: at 1/k, pixel i covers the stored pixels
k*i to k*(i+1), so coordinates are divided by k, even if k does not divide the size and the last
pixel covers fewer.

There are two ways.  Most JPEGs are decoded by libjpeg-turbo straight into an array and resized by
torch; the edges of their crop are rounded to whole pixels, of the size that is decoded.  All other
files, and the JPEGs that are unusual in any way (CMYK, 12 bits, damaged, truncated), are decoded
and resized by Pillow, whose readers convert them or refuse them with a reason, and whose crops have
fractions of pixels.  Pillow decodes the same pixels, by the same library, and takes up to four
times as long: it copies each row into pixels of four bytes.
"""

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import NamedTuple

import simplejpeg
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.photographs import (
    PIXEL_LIMIT,
    as_rgb,
    decoding,
    open_checked,
    to_tensor,
)
from gestalt.support.arrays import Pixels

_JPEG = ("JPEG", "MPO")  # names of Pillow
_START, _SCAN = b"\xff\xd8\xff", 0xDA
# baseline, extended and progressive; the others are lossless or coded arithmetically
_FRAMES = (0xC0, 0xC1, 0xC2)
_APP0, _APP2, _APP14 = 0xE0, 0xE2, 0xEE
_PLAIN = (0xC4, 0xDB, 0xDD, 0xFE)  # tables, restart interval, comment
_LEAST = {_APP0: 16, _APP14: 14}  # bytes of JFIF's and Adobe's segments
# start, marker and length of a segment; bits, height, width and channels, if it is a frame
_SEGMENT = Struct(">BBHBHHB")
_SEGMENTS = 1000  # most segments before the pixels; files have tens


class Frame(NamedTuple):
    """The size of a JPEG in pixels; ``tagged`` if it may have an orientation or further images."""

    width: int
    height: int
    tagged: bool


def read_frame(content: bytes) -> Frame | None:
    """Read the segments before the pixels of a grey or three-channel JPEG of 8 bits; None for any
    other file.
    """
    if not content.startswith(_START):
        return None
    position, size, tagged = 2, None, False
    for _ in range(_SEGMENTS):
        if len(content) < position + _SEGMENT.size:
            return None
        start, marker, length, bits, height, width, parts = _SEGMENT.unpack_from(content, position)
        if start != 0xFF:
            return None
        if marker == _SCAN:
            return None if size is None else Frame(*size, tagged=tagged)
        if marker in _FRAMES:
            if size is not None or bits != 8 or parts not in (1, 3):
                return None
            size = width, height
        elif marker not in _PLAIN:
            if not 0xE0 <= marker <= 0xEF:
                return None
            profile = marker == _APP2 and content.startswith(b"ICC_PROFILE\0", position + 4)
            tagged |= not profile and length < _LEAST.get(marker, 2**16)
        position += 2 + length
    return None


def decode_jpeg(content: bytes, frame: Frame, divisor: int) -> Pixels | None:
    """Decode to RGB, (ceil(H / divisor), ceil(W / divisor), 3), divisor 1, 2, 4 or 8; None for a
    file that the decoder warns of.
    """
    height, width = -(-frame.height // divisor), -(-frame.width // divisor)
    try:
        pixels = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

LEAST_SIDE = 8
"""Smallest side in pixels: smaller images, such as 1x1 tracking pixels of web pages, show nothing
that a caption describes.
"""

_ORIENTATION = 0x0112  # EXIF tag
# an orientation's transposition, by which a crop is displayed
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED = 5  # the axes of orientations from this one on are swapped


def prepare_crop(
    content: bytes, size: int, choose: Callable[[int, int], Box]
) -> Callable[[], Tensor]:
    """Read the head of an image and choose a box; the result decodes the box and resizes it to a
    square, bicubic.

    Args:
        content: bytes of the file.
        size: S.
        choose: maps width and height in pixels, with the orientation tag applied, to a box; called
            once.

    Returns:
        Makes the crop, (3, S, S) uint8, in memory by pixel or by channel; it raises ``BadSample``
        if the image is not usable.
    """
    frame = read_frame(content)
    if frame is None or not _is_usual(frame, content):
        return partial(_decode_by_pillow, content, size, choose=choose)
    box = choose(frame.width, frame.height)
    return partial(_decode, content, size, frame=frame, box=box, divisor=divisor_of(box, size))


def _decode(content: bytes, size: int, frame: Frame, box: Box, divisor: int) -> Tensor:
    """Decode a box of a JPEG and resize it with antialiasing; the memory stays ordered by pixel."""
    pixels = decode_jpeg(content, frame, divisor)
    if pixels is None:
        return _decode_by_pillow(content, size, choose=lambda width, height: box)
    left, top, right, bottom = whole_box(box, divisor)
    # in this order of axes torch sees channels_last
    crop = torch.from_numpy(pixels[top:bottom, left:right]).unsqueeze(0).permute(0, 3, 1, 2)
    return functional.interpolate(crop, size=(size, size), mode="bicubic", antialias=True)[0]


def whole_box(box: Box, divisor: int) -> tuple[int, int, int, int]:
    """Return a box in whole pixels of an image at 1/divisor of its size: the nearest edges, at
    least a pixel a side.
    """
    left, top, right, bottom = (round(edge / divisor) for edge in box)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _is_usual(frame: Frame, content: bytes) -> bool:
    """True if a JPEG has a usable size and is displayed as it is stored."""
    if min(frame.width, frame.height) < LEAST_SIDE or frame.width * frame.height > PIXEL_LIMIT:
        return False
    if not frame.tagged:
        return True
    try:
        with decoding():
            return orientation(open_checked(content)) is None
    except BadSample:
        return False


def _decode_by_pillow(content: bytes, size: int, choose: Callable[[int, int], Box]) -> Tensor:
    """Decode and resize a box of any supported file by Pillow."""
    with decoding():
        image = open_checked(content)
        jpeg = image.format in _JPEG
        if not jpeg:
            # some formats store the orientation after the pixels, and loading rotates a TIFF
            image.load()
        turn = orientation(image)
    _check_side(image)
    width, height = image.size
    if turn is not None and turn >= _SWAPPED:
        width, height = height, width
    box = _stored(choose(width, height), image.size, turn)
    divisor = divisor_of(box, size) if jpeg else 1
    with decoding():
        if divisor > 1:
            # chooses the largest divisor with at least this size
            image.draft(None, (image.width // divisor, image.height // divisor))
        pixels = as_rgb(image)
    left, top, right, bottom = (edge / divisor for edge in box)
    crop = pixels.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    return to_tensor(crop if turn is None else crop.transpose(_TURNS[turn]))


def shown_size(content: bytes) -> tuple[int, int]:
    """Decode a whole image and return its width and height in pixels, with the orientation tag
    applied.

    Raises:
        BadSample: not a usable image.
    """
    with decoding():
        image = open_checked(content)
        image.load()
        _check_side(image)
        return upright(image).size


def upright(image: Image.Image) -> Image.Image:
    """Return a whole image as RGB with its orientation tag applied; call it under ``decoding``.

    Raises:
        BadSample: not a usable image.
    """
    image.load()
    pixels, turn = as_rgb(image), orientation(image)
    return pixels if turn is None else pixels.transpose(_TURNS[turn])


def _check_side(image: Image.Image) -> None:
    if min(image.size) < LEAST_SIDE:
        raise BadSample(
            "too_small", f"{image.width}x{image.height}, at least {LEAST_SIDE} pixels a side"
        )


def orientation(image: Image.Image) -> int | None:
    """Return the orientation tag; None if the image is displayed as stored."""
    if image.format in _JPEG and not {"exif", "xmp"} & image.info.keys():
        return None  # this holds for most files, and reading the tag takes time
    orientation = image.getexif().get(_ORIENTATION)
    return orientation if orientation in _TURNS else None


def _stored(box: Box, size: tuple[int, int], turn: int | None) -> Box:
    """Map a box of the displayed image to the stored pixels."""
    if turn is None:
        return box
    (left, top, right, bottom), (width, height) = box, size
    if turn >= _SWAPPED:
        left, top, right, bottom = top, left, bottom, right
    if turn in (2, 3, 7, 8):  # x is mirrored
        left, right = max(width - right, 0.0), width - left  # rounding can give a value below 0
    if turn in (3, 4, 6, 7):  # y is mirrored
        top, bottom = max(height - bottom, 0.0), height - top
    return left, top, right, bottom


def divisor_of(box: Box, size: int) -> int:
    """Return the largest k such that the box has S pixels a side in a JPEG decoded at 1/k of its
    size.
    """
    room = min(box[2] - box[0], box[3] - box[1]) / size
    return next((k for k in (8, 4, 2) if k <= room), 1)
