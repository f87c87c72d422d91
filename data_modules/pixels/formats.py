"""The formats of photographs, and the endings of their files.  Torch is not imported."""

from functools import cache

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Supported formats.  Pillow's other readers run programs (EPS) or are not needed."""

MASKS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
"""Formats of masks, which keep values, but for some compressions of TIFF."""


@cache
def endings() -> tuple[str, ...]:
    """Return the endings of the files that can be read, such as ``.jpg``, as Pillow names them."""
    kinds = Image.registered_extensions()
    return tuple(sorted(ending for ending in kinds if kinds[ending] in FORMATS))
