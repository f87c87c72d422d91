"""Photographs: what a file may hold, and its pixels in RGB.  H W pixels.

A file is one of ``FORMATS`` with at most ``PIXEL_LIMIT`` pixels. Grey becomes RGB, 16 bits are scaled to 8, CMYK is converted, what is
transparent lies on white, and an animation is its first frame. Whatever else it holds is refused with a reason: no picture is made up
for it, and of a truncated one the part that is there is not used.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is read.  The other readers of Pillow run programs (EPS) or are of no use here."""

PIXEL_LIMIT = 89_478_485
"""Most pixels of an image, checked before any is decoded: Pillow's own limit, from which on it warns."""

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


class Undecodable(ValueError):
    """Bytes that are no image of use.

    Attributes:
        reason: why, one of ``bad_samples.REASONS``.
        detail: what more there is to say of this one, for people.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """Take both."""
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason} ({detail})" if detail else reason)


def read_bytes(path: Path) -> bytes:
    """What is in a file.

    Raises:
        Undecodable: it is not there, or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Undecodable("missing_image", str(path)) from error
    except OSError as error:
        raise Undecodable("unreadable", f"{path}: {error.strerror}") from error


@contextmanager
def decoding() -> Iterator[None]:
    """Turn whatever Pillow raises on bad bytes into ``Undecodable``; its readers raise almost anything."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what matters is checked here
            yield
    except (Undecodable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Undecodable("not_an_image", f"known formats: {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise Undecodable("too_large", f"at most {PIXEL_LIMIT:,}") from error
    except Exception as error:
        reason = "truncated" if "truncated" in str(error).lower() else "broken_image"
        raise Undecodable(reason, " ".join(str(error).split())) from error


def open_checked(content: bytes) -> Image.Image:
    """An image whose header has been read and whose pixels have not; to be called under ``decoding``.

    Raises:
        Undecodable: no bytes, or too many pixels.
    """
    if not content:
        raise Undecodable("zero_bytes")
    image = Image.open(BytesIO(content), formats=FORMATS)
    if image.width * image.height > PIXEL_LIMIT:
        raise Undecodable("too_large", f"{image.width}x{image.height}, at most {PIXEL_LIMIT:,}")
    return image


def open_rgb(path: Path) -> Image.Image:
    """A photograph in RGB, whatever its file holds; the orientation tag is not applied, since masks are drawn on the stored pixels.

    Raises:
        ValueError: it cannot be read; the message names the file.
    """
    try:
        content = read_bytes(path)
        with decoding():
            return as_rgb(open_checked(content))
    except Undecodable as error:
        raise ValueError(f"{path}: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """The pixels of an image in RGB, as the head of this file says; to be called under ``decoding``.

    Raises:
        Undecodable: values without a known range.
    """
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM"):  # Pillow would clip where it converts
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Undecodable("value_range", f"{image.format} of mode {image.mode}; 8 or 16 bits a channel are read")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) uint8."""
    assert image.mode == "RGB"
    planes = bytearray().join([image.tobytes("raw", band) for band in "RGB"])  # in a third of the time of turning an interleaved copy
    return torch.from_numpy(np.frombuffer(planes, dtype=np.uint8).reshape(3, image.height, image.width))


def suffix_of(content: bytes) -> str:
    """The usual ending of such a file, without a dot; ``jpg`` for what is none of ``FORMATS``, so that a reader finds it and says so."""
    kinds = ((b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"), (b"\0\0\0\x0cjP", "jp2"))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "avif"
    if content[:1] == b"P" and content[1:2] in b"123456":
        return "ppm"
    return next((suffix for head, suffix in kinds if content.startswith(head)), "jpg")
