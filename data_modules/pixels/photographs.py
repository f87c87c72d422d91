"""Read photographs of any supported format as RGB.  H W pixels.

A file has one of ``FORMATS`` and at most ``PIXEL_LIMIT`` pixels.  Grey and CMYK are converted to
RGB, 16 bits are scaled to 8, transparent pixels are placed on white, and an animation gives its
first frame.  Any other file is rejected with a reason: there is no placeholder, and the readable
part of a truncated image is not used.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.formats import FORMATS
from gestalt.support.arrays import Array, Pixels
from gestalt.support.files import Strange, TooLarge, read_whole, value_hash

PIXEL_LIMIT = 89_478_485
"""Largest number of pixels, checked before decoding: the limit above which Pillow warns."""

BYTE_LIMIT = 2**30
"""Largest image file: above eight bytes, four channels of 16 bits, for each of ``PIXEL_LIMIT``
pixels.
"""

Read = TypeVar("Read")

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def read_bytes(path: Path) -> bytes:
    """Read a regular file of at most ``BYTE_LIMIT``.

    Raises:
        BadSample: missing, unreadable, not a regular file, or too large.
    """
    try:
        return read_whole(path, most=BYTE_LIMIT)
    except Strange as error:
        reason = "too_large" if isinstance(error, TooLarge) else "unreadable"
        raise BadSample(reason, f"{path}: {error}") from error
    except (FileNotFoundError, ValueError) as error:  # ValueError: a zero byte in the name
        raise BadSample("missing_image", str(path)) from error
    except OSError as error:
        raise BadSample("unreadable", f"{path}: {error.strerror}") from error


@contextmanager
def decoding() -> Iterator[None]:
    """Convert all errors of Pillow into ``BadSample``, since its readers raise many types."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata do not matter here
            yield
    except (BadSample, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadSample("too_large", f"at most {PIXEL_LIMIT:,}") from error
    except Exception as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken_image"
        raise BadSample(reason, str(error)) from error


def open_checked(content: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Open an image of one of these formats without decoding its pixels; call it under
    ``decoding``.

    Raises:
        BadSample: empty, of another format, or too many pixels.
    """
    if not content:
        raise BadSample("zero_bytes")
    try:
        image = Image.open(BytesIO(content), formats=formats)
    except UnidentifiedImageError as error:
        raise BadSample("not_an_image", f"known formats: {', '.join(formats)}") from error
    if image.width * image.height > PIXEL_LIMIT:
        raise BadSample("too_large", f"{image.width}x{image.height}, at most {PIXEL_LIMIT:,}")
    return image


def open_rgb(path: Path) -> Image.Image:
    """Read a photograph as RGB, without applying the orientation tag, since masks are drawn on the
    stored pixels.

    Raises:
        ValueError: unreadable file.
    """
    return open_as(path, as_rgb)


def open_as(
    path: Path, read: Callable[[Image.Image], Read], formats: tuple[str, ...] = FORMATS
) -> Read:
    """Return what a function reads of an image file of one of these formats.

    Raises:
        ValueError: unreadable file.
    """
    try:
        with decoding():
            return read(open_checked(read_bytes(path), formats))
    except BadSample as error:
        raise ValueError(f"{path}: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Decode an image and convert it to RGB by the rules of this module; call it under
    ``decoding``.

    Raises:
        BadSample: values of unknown range.
    """
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    # Pillow's conversion would clip
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image)
        grey = eight_bits(values)
        if "transparency" in image.info:  # one value, of 16 bits
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadSample(
            "value_range", f"{image.format} of mode {image.mode}; expected 8 or 16 bits a channel"
        )
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def eight_bits(values: Array) -> Pixels:
    """Scale values of 16 bits to 8."""
    # the largest image takes 360 MB, half of what int64 would
    return ((values.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)


def pixels_hash(image: Tensor) -> int:
    """Hash the pixels and the size of an image (3, H, W) uint8, the same in every process."""
    return value_hash(str(tuple(image.shape)).encode() + image.cpu().numpy().tobytes())


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an RGB image to a tensor, (3, H, W) uint8."""
    assert image.mode == "RGB"
    # takes a third of the time of permuting an interleaved copy
    planes = bytearray().join([image.tobytes("raw", band) for band in "RGB"])
    return torch.from_numpy(
        np.frombuffer(planes, dtype=np.uint8).reshape(3, image.height, image.width)
    )
