"""Decode JPEG files by libjpeg-turbo straight into an array, at full size or at 1/2, 1/4 or 1/8 of
it.  H W pixels.

Pillow decodes the same pixels, by the same library, and takes longer: it copies each row into
pixels of four bytes.  A file that is unusual in any way (CMYK, 12 bits, damaged, truncated) is left
to Pillow, whose readers convert it or refuse it with a reason.
"""

import threading
from typing import NamedTuple

import numpy as np
import simplejpeg

from gestalt.support.arrays import Pixels

_START, _SCAN = b"\xff\xd8\xff", 0xDA
# baseline, extended and progressive; the others are lossless or coded arithmetically
_FRAMES = (0xC0, 0xC1, 0xC2)
_APP0, _APP2, _APP14 = 0xE0, 0xE2, 0xEE
_PLAIN = (0xC4, 0xDB, 0xDD, 0xFE)  # tables, restart interval, comment
_LEAST = {_APP0: 16, _APP14: 14}  # bytes of JFIF's and Adobe's segments
_SEGMENTS = 1000  # most segments before the pixels; files have tens
_KEPT = 2**25  # bytes of the largest array that is kept for the next image

_memory = threading.local()


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
        head = content[position : position + 10]
        if len(head) < 10 or head[0] != 0xFF:
            return None
        marker, length = head[1], head[2] << 8 | head[3]
        if marker == _SCAN:
            return None if size is None else Frame(*size, tagged=tagged)
        if marker in _FRAMES:
            if size is not None or head[4] != 8 or head[9] not in (1, 3):
                return None
            size = head[7] << 8 | head[8], head[5] << 8 | head[6]
        elif marker not in _PLAIN:
            if not 0xE0 <= marker <= 0xEF:
                return None
            profile = marker == _APP2 and content.startswith(b"ICC_PROFILE\0", position + 4)
            tagged |= not profile and length < _LEAST.get(marker, 2**16)
        position += 2 + length
    return None


def decode_jpeg(content: bytes, frame: Frame, *, divisor: int) -> Pixels | None:
    """Decode to RGB, (ceil(H / divisor), ceil(W / divisor), 3), divisor 1, 2, 4 or 8; None for a
    file that the decoder warns of.

    The array is valid until the next call on this thread: its memory is used again, since new
    memory costs up to a fifth of the time.
    """
    height, width = -(-frame.height // divisor), -(-frame.width // divisor)
    size = height * width * 3
    buffer = getattr(_memory, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = np.empty(size, dtype=np.uint8)
        if size <= _KEPT:
            _memory.buffer = buffer
    try:
        pixels = simplejpeg.decode_jpeg(
            content, "RGB", min_height=height, min_width=width, buffer=buffer
        )
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None
